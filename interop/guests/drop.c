// Keeps the records whose value ends in an even byte. No libc: clang --target=wasm32 -nostdlib.
#include <stdint.h>

#define IMPORT(name) __attribute__((import_module("redpanda_transform"), import_name(name)))
IMPORT("check_abi_version_2") void check_abi_version_2(void);
IMPORT("read_batch_header")
int32_t read_batch_header(int64_t *base, int32_t *count, int32_t *epoch, int16_t *attributes, int32_t *last_delta,
                          int64_t *first_ts, int64_t *max_ts, int64_t *producer, int16_t *producer_epoch, int32_t *sequence);
IMPORT("read_next_record")
int32_t read_next_record(uint8_t *attributes, int64_t *timestamp, int64_t *offset, uint8_t *buf, uint32_t len);
IMPORT("write_record") int32_t write_record(const uint8_t *buf, int32_t len);

static uint8_t record[1 << 20];

static const uint8_t *varint(const uint8_t *p, int32_t *out) {
  uint32_t n = 0, shift = 0;
  uint8_t b;
  do {
    b = *p++;
    n |= (uint32_t)(b & 0x7f) << shift;
    shift += 7;
  } while (b & 0x80);
  *out = (int32_t)(n >> 1) ^ -(int32_t)(n & 1);
  return p;
}

__attribute__((export_name("_start"))) void start(void) {
  check_abi_version_2();
  for (;;) {
    int64_t base, first_ts, max_ts, producer;
    int32_t count, epoch, last_delta, sequence;
    int16_t attributes, producer_epoch;
    if (read_batch_header(&base, &count, &epoch, &attributes, &last_delta, &first_ts, &max_ts, &producer, &producer_epoch, &sequence) < 0) return;
    while (count-- > 0) {
      uint8_t attribute;
      int64_t timestamp, offset;
      int32_t size = read_next_record(&attribute, &timestamp, &offset, record, sizeof record), key, value;
      if (size < 0) __builtin_trap();
      const uint8_t *p = varint(record, &key);
      p = varint(key > 0 ? p + key : p, &value);
      if (value > 0 && p[value - 1] % 2 == 0 && write_record(record, size) != size) __builtin_trap();
    }
  }
}
