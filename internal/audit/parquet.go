package audit

import "encoding/binary"

// parquetEncoder writes a file of Apache Parquet (format 2, github.com/apache/
// parquet-format) with one row group, whose columns are all required, each one page,
// in plain encoding and not compressed. That little of the format needs no library:
// parquet-go brings 80 packages for what stands here.
type parquetEncoder struct {
	rows    int64
	columns [len(fields)][]byte
}

const parquetMagic = "PAR1"

// Numbers of the format.
const (
	typeInt64, typeBytes         = 2, 6
	convertedText, convertedTime = 0, 9
	encodingPlain, encodingRLE   = 0, 3
)

func (p *parquetEncoder) Head(b []byte) []byte { return append(b, parquetMagic...) }

func (p *parquetEncoder) Append(b []byte, e *Entry) []byte {
	for i := range fields {
		c := &p.columns[i]
		if f := &fields[i]; f.text == nil {
			*c = binary.LittleEndian.AppendUint64(*c, uint64(f.number(e)))
		} else {
			s := f.text(e)
			*c = append(binary.LittleEndian.AppendUint32(*c, uint32(len(s))), s...)
		}
	}
	p.rows++
	return b
}

// Tail writes the columns and the footer. Places count from the head of the file,
// which has been written before b.
func (p *parquetEncoder) Tail(b []byte) []byte {
	at := int64(len(parquetMagic))
	begin := len(b)
	var chunks [len(fields)]struct{ offset, size int64 }
	for i, column := range p.columns {
		var header thrift
		header.int(1, 0) // a data page
		header.int(2, int64(len(column)))
		header.int(3, int64(len(column)))
		header.begin(5)
		header.int(1, p.rows)
		header.int(2, encodingPlain)
		header.int(3, encodingRLE) // of levels, of which required columns have none
		header.int(4, encodingRLE)
		header.end()
		header.end()
		chunks[i].offset = at + int64(len(b)-begin)
		b = append(append(b, header.b...), column...)
		chunks[i].size = at + int64(len(b)-begin) - chunks[i].offset
	}
	var foot thrift
	foot.int(1, 2)
	foot.list(2, thriftStruct, 1+len(fields))
	foot.element()
	foot.text(4, "audit_events")
	foot.int(5, int64(len(fields)))
	foot.end()
	for i := range fields {
		foot.element()
		foot.int(1, int64(columnType(i)))
		foot.int(3, 0) // required
		foot.text(4, fields[i].name)
		if fields[i].text != nil {
			foot.int(6, convertedText)
		} else if fields[i].name == timeField {
			foot.int(6, convertedTime)
		}
		foot.end()
	}
	foot.long(3, p.rows)
	foot.list(4, thriftStruct, 1)
	foot.element()
	foot.list(1, thriftStruct, len(fields))
	total := int64(0)
	for i, c := range chunks {
		total += c.size
		foot.element()
		foot.long(2, c.offset)
		foot.begin(3)
		foot.int(1, int64(columnType(i)))
		foot.list(2, thriftInt, 2)
		foot.value(encodingPlain)
		foot.value(encodingRLE)
		foot.list(3, thriftText, 1)
		foot.string(fields[i].name)
		foot.int(4, 0) // not compressed
		foot.long(5, p.rows)
		foot.long(6, c.size)
		foot.long(7, c.size)
		foot.long(9, c.offset)
		foot.end()
		foot.end()
	}
	foot.long(2, total)
	foot.long(3, p.rows)
	foot.end()
	foot.text(6, "nyx")
	foot.end()
	b = append(b, foot.b...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(foot.b))), parquetMagic...)
}

func columnType(i int) int {
	if fields[i].text == nil {
		return typeInt64
	}
	return typeBytes
}

// thrift writes a struct in Thrift's compact protocol, fields by rising number.
type thrift struct {
	b    []byte
	last []int // the field written last in each struct that is open; none of the first
	now  int
}

// Types of the protocol.
const (
	thriftInt, thriftLong, thriftText, thriftList, thriftStruct = 5, 6, 8, 9, 12
)

func (t *thrift) field(id, kind int) {
	t.b = append(t.b, byte((id-t.now)<<4|kind))
	t.now = id
}

func (t *thrift) value(v int64) { t.b = binary.AppendVarint(t.b, v) }

func (t *thrift) string(s string) {
	t.b = append(binary.AppendUvarint(t.b, uint64(len(s))), s...)
}

func (t *thrift) int(id int, v int64)   { t.field(id, thriftInt); t.value(v) }
func (t *thrift) long(id int, v int64)  { t.field(id, thriftLong); t.value(v) }
func (t *thrift) text(id int, s string) { t.field(id, thriftText); t.string(s) }
func (t *thrift) begin(id int)          { t.field(id, thriftStruct); t.element() }
func (t *thrift) element()              { t.last, t.now = append(t.last, t.now), 0 }
func (t *thrift) list(id, kind, size int) {
	t.field(id, thriftList)
	if size < 15 {
		t.b = append(t.b, byte(size<<4|kind))
		return
	}
	t.b = binary.AppendUvarint(append(t.b, byte(15<<4|kind)), uint64(size))
}

// end ends the struct that was begun last.
func (t *thrift) end() {
	t.b = append(t.b, 0)
	if n := len(t.last); n > 0 {
		t.now, t.last = t.last[n-1], t.last[:n-1]
	}
}
