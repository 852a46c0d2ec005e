/* The guest ABI of Redpanda's data transforms for C without a library. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define IMPORT(name) __attribute__((import_module("redpanda_transform"), import_name(name)))

/* A marker: it says which ABI the module was written for. */
IMPORT("check_abi_version_2") void check_abi_version_2(void);

/* Waits for a batch and returns the size of its largest record; below 0 there is none to come. */
IMPORT("read_batch_header")
int32_t read_batch_header(int64_t *base_offset, int32_t *record_count, int32_t *leader_epoch, int16_t *attributes,
                          int32_t *last_offset_delta, int64_t *base_timestamp, int64_t *max_timestamp,
                          int64_t *producer_id, int16_t *producer_epoch, int32_t *base_sequence);

/* Reads a record and returns its size; -1: all are read, -2: the buffer is too small (it may be read again). */
IMPORT("read_next_record")
int32_t read_next_record(uint8_t *attributes, int64_t *timestamp, int64_t *offset, uint8_t *buffer, uint32_t size);

/* Emits a record to the first output topic and returns its size. */
IMPORT("write_record") int32_t write_record(const uint8_t *record, uint32_t size);

/* A record is: key length, key, value length, value, number of headers, headers. Numbers are zig-zag varints, -1 is null. */
static inline const uint8_t *read_varint(const uint8_t *p, int32_t *value) {
  uint32_t n = 0;
  for (int shift = 0;; shift += 7) {
    n |= (uint32_t)(*p & 0x7f) << shift;
    if (*p++ < 0x80) {
      *value = (int32_t)(n >> 1) ^ -(int32_t)(n & 1);
      return p;
    }
  }
}
