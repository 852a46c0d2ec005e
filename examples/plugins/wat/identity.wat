;; Identity, by hand: passes every record on. It shows all there is to the ABI.
;;
;;   wat2wasm identity.wat -o identity.wasm        (Debian: wabt)
;;   rivulet plugin push identity identity.wasm
(module
  ;; A marker: it says which ABI this module was written for and does nothing.
  (import "redpanda_transform" "check_abi_version_1" (func $abi))
  ;; Waits for a batch. Ten pointers to where its header goes; the result is the size of its largest record, below 0: no more.
  (import "redpanda_transform" "read_batch_header"
    (func $header (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  ;; Pointers for attributes (1 byte), timestamp (8), offset (8), a buffer and its size; the result is the record's size.
  (import "redpanda_transform" "read_next_record" (func $next (param i32 i32 i32 i32 i32) (result i32)))
  ;; A record and its size; the result is the size, or below 0.
  (import "redpanda_transform" "write_record" (func $write (param i32 i32) (result i32)))

  ;; 0..79 the header, 8 bytes a field (the number of records is the second); 80..103 the record's; from 1024 on the record.
  (memory (export "memory") 17) ;; one more page than the largest record of a default topic

  (func (export "_start")
    (local $left i32) (local $size i32)
    (call $abi)
    (loop $batches
      (if (i32.lt_s
            (call $header (i32.const 0) (i32.const 8) (i32.const 16) (i32.const 24) (i32.const 32)
                          (i32.const 40) (i32.const 48) (i32.const 56) (i32.const 64) (i32.const 72))
            (i32.const 0))
        (then (return)))
      (local.set $left (i32.load (i32.const 8)))
      (loop $records
        (local.set $size
          (call $next (i32.const 80) (i32.const 88) (i32.const 96) (i32.const 1024) (i32.const 1113088)))
        (if (i32.lt_s (local.get $size) (i32.const 0)) (then unreachable)) ;; too large: this record fails
        (if (i32.ne (call $write (i32.const 1024) (local.get $size)) (local.get $size)) (then unreachable))
        (br_if $records (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (br $batches))))
