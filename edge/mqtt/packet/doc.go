// Package packet is the codec of MQTT 3.1, 3.1.1 and 5.0: a pure one, without I/O, clock or goroutines.
//
// Decoding is by view: Split cuts one packet off a read buffer, and a packet type's Decode fills a struct whose byte slices
// are parts of that buffer. They are good until the buffer changes; Decode overwrites the whole struct, so that one struct
// serves a connection for life and PUBLISH costs no allocation. Encoding is by append: the Append methods put a whole packet
// behind a byte slice.
//
// Decode checks everything that the packet alone can tell: UTF-8, U+0000, reserved bits, lengths, properties of another
// packet type or given twice, values out of range. Its error is always an *Error, with the reason code that a server names
// in its DISCONNECT (MQTT 5) before it closes: 0x81 malformed packet, 0x82 protocol error, or a more telling one. What needs
// the connection's state (aliases, packet ids in use, receive maximum) is the caller's to check.
//
// One packet type a file; the four acknowledgements share one, as they have one form. properties.go holds the table of
// MQTT 5 properties, fixed.go the fixed header, text.go the checks of strings, reason.go the reason codes.
package packet
