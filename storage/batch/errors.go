package batch

import "errors"

// Errors of the codec.
var (
	ErrTruncated = errors.New("batch is truncated")
	ErrMagic     = errors.New("batch has a magic other than 2")
	ErrCRC       = errors.New("batch fails its CRC32C")
	ErrMalformed = errors.New("batch is malformed")
	ErrCodec     = errors.New("batch has an unknown compression codec")
	ErrStamped   = errors.New("batch has the timestamp type LogAppendTime, which only a broker sets")
	ErrTooLarge  = errors.New("batch decompresses to more than its bound")
)
