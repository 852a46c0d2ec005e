package batch

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// franz's view of our batches: every field where its decoder looks for it.
func TestFranzReadsOurs(t *testing.T) {
	var c Compressor
	plain := build(42, 300, func(i int) int64 { return 1700000000000 + int64(i) })
	for _, codec := range codecs {
		b, err := c.Compress(nil, plain, codec)
		if err != nil {
			t.Fatal(err)
		}
		fp := kmsg.NewFetchResponseTopicPartition()
		fp.HighWatermark, fp.LastStableOffset = 1000, 1000
		fp.RecordBatches = b
		got, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: "t", Offset: 42}, &fp, kgo.DefaultDecompressor(), nil)
		if got.Err != nil || len(got.Records) != 300 {
			t.Fatalf("%s: %d records, %v", codec, len(got.Records), got.Err)
		}
		for i, r := range got.Records {
			p := telemetry(i)
			if r.Offset != int64(42+i) || !bytes.Equal(r.Key, p.Key()) || !bytes.Equal(r.Value, p.Value()) ||
				r.Timestamp.UnixMilli() != 1700000000000+int64(i) || len(r.Headers) != 1 || r.Headers[0].Key != "mqtt.topic" {
				t.Fatalf("%s: record %d is %+v", codec, i, r)
			}
		}
	}
}

// Ours is byte for byte what kmsg writes for the same fields.
func TestSameBytesAsKmsg(t *testing.T) {
	ours := build(7, 4, func(i int) int64 { return 1000 + int64(i) })
	var rs []byte
	for i := range 4 {
		p := telemetry(i)
		r := kmsg.Record{TimestampDelta64: int64(i), OffsetDelta: int32(i), Key: p.Key(), Value: p.Value()}
		for _, h := range p.Headers(nil) {
			r.Headers = append(r.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		body := r.AppendTo(nil)[1:] // its length is still 0, one byte
		rs = append(binary.AppendVarint(rs, int64(len(body))), body...)
	}
	k := kmsg.RecordBatch{
		FirstOffset: 7, PartitionLeaderEpoch: 3, Magic: 2, LastOffsetDelta: 3, FirstTimestamp: 1000, MaxTimestamp: 1003,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 4, Records: rs,
	}
	k.Length = int32(HeaderSize - 12 + len(rs))
	k.CRC = int32(crc32.Checksum(k.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	if theirs := k.AppendTo(nil); !bytes.Equal(ours, theirs) {
		t.Fatalf("ours\n%x\ntheirs\n%x", ours, theirs)
	}
}

// What franz's client compresses, we read; so too what the library's own lz4 writer makes, with every option of the format.
func TestWeReadFranz(t *testing.T) {
	plain := build(0, 2000, func(int) int64 { return 9 })
	for codec, option := range map[Codec]kgo.CompressionCodec{
		Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
	} {
		z, err := kgo.DefaultCompressor(option)
		if err != nil {
			t.Fatal(err)
		}
		packed, _ := z.Compress(new(bytes.Buffer), plain[HeaderSize:])
		readBack(t, codec, packed, plain)
	}
	for _, options := range [][]lz4.Option{
		{lz4.BlockSizeOption(lz4.Block4Mb), lz4.ChecksumOption(true), lz4.BlockChecksumOption(true)},
		{lz4.BlockSizeOption(lz4.Block256Kb), lz4.SizeOption(uint64(len(plain) - HeaderSize))},
		{lz4.BlockSizeOption(lz4.Block1Mb), lz4.CompressionLevelOption(lz4.Level5)},
		{lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false)},
	} {
		var out bytes.Buffer
		w := lz4.NewWriter(&out)
		if err := w.Apply(options...); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain[HeaderSize:]); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		readBack(t, LZ4, out.Bytes(), plain)
	}
}

// Snappy as snappy-java frames it.
func TestXerial(t *testing.T) {
	plain := build(0, 2000, func(int) int64 { return 9 })
	framed := append([]byte(nil), xerial...)
	framed = append(framed, 0, 0, 0, 1, 0, 0, 0, 1)
	for rest := plain[HeaderSize:]; len(rest) > 0; {
		n := min(32<<10, len(rest))
		block := snappy.Encode(nil, rest[:n])
		framed = binary.BigEndian.AppendUint32(framed, uint32(len(block)))
		framed, rest = append(framed, block...), rest[n:]
	}
	readBack(t, Snappy, framed, plain)
}

// Linked blocks refer to what came before; librdkafka writes them.
func TestLinkedLZ4Blocks(t *testing.T) {
	raw := build(0, 2000, func(int) int64 { return 9 })[HeaderSize:]
	var c lz4.Compressor
	first := raw[:lz4Block]
	block := make([]byte, lz4.CompressBlockBound(len(first)))
	n, err := c.CompressBlock(first, block)
	if err != nil {
		t.Fatal(err)
	}
	frame := []byte{0x04, 0x22, 0x4d, 0x18, lz4Version, 0x40, 0}
	frame = append(binary.LittleEndian.AppendUint32(frame, uint32(n)), block[:n]...)
	// One match of 100 bytes, 64,000 back, and five literals, by hand.
	link := []byte{0x0f, 0x00, 0xfa, 100 - 15 - 4, 0x50, 'x', 'y', 'z', 'u', 'v'}
	frame = append(binary.LittleEndian.AppendUint32(frame, uint32(len(link))), link...)
	frame = append(frame, 0, 0, 0, 0)
	got, err := unlz4(nil, frame, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	want := append(bytes.Clone(first), first[lz4Block-64000:][:100]...)
	if want = append(want, "xyzuv"...); !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
}

func readBack(t *testing.T, codec Codec, packed, plain []byte) {
	t.Helper()
	b := append(bytes.Clone(plain[:HeaderSize]), packed...)
	h, err := ParseHeader(plain)
	if err != nil {
		t.Fatal(err)
	}
	h.Length, h.Attributes = int32(len(b)-lengthStart), int16(codec)
	h.put(b)
	seal(b)
	if _, err := Validate(b, 1<<20); err != nil {
		t.Fatalf("%s: %v", codec, err)
	}
	var c Compressor
	if back, err := c.Compress(nil, b, None); err != nil || !bytes.Equal(back, plain) {
		t.Fatalf("%s does not come back: %v", codec, err)
	}
}

// The whole way: franz's partitioner and ours choose the same partition.
func TestMurmur2AsFranz(t *testing.T) {
	p := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for i := range 1000 {
		key := telemetry(i).Key()
		key = key[:len(key)-i%17]
		want := p.Partition(&kgo.Record{Key: key}, 12)
		if got := int(Murmur2(key)&0x7fffffff) % 12; got != want {
			t.Fatalf("%q: partition %d, franz says %d", key, got, want)
		}
	}
}
