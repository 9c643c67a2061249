package segment

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	parquetMagic = "PAR1"
	// schemaVersion counts changes of the table. It stands in the footer and in
	// the index. Columns are found by name: one that a file lacks reads as
	// empty, one that is not known is passed over.
	schemaVersion = 1
	// Keys of the file's metadata.
	keySchema = "telemesh.schema"
	keyWriter = "telemesh.writer"
)

// footer collects the metadata of the Parquet file.
type footer struct {
	meta format.FileMetaData
}

func newFooter(writer string) *footer {
	f := &footer{}
	f.meta.Version = 2
	f.meta.Schema = schemaElements()
	f.meta.CreatedBy = writer
	f.meta.KeyValueMetadata = []format.KeyValue{{Key: keySchema, Value: strconv.Itoa(schemaVersion)}, {Key: keyWriter, Value: writer}}
	f.meta.ColumnOrders = make([]format.ColumnOrder, numColumns)
	for i := range f.meta.ColumnOrders {
		f.meta.ColumnOrders[i].Value = &format.TypeDefinedOrder{}
	}
	return f
}

// ConvertedType is what LogicalType was before; old readers know only that.
const (
	convertedUTF8 = 0
	convertedMap  = 1
)

// schemaElements is the table's tree in depth-first order.
func schemaElements() []format.SchemaElement {
	root := format.SchemaElement{Name: "record", NumChildren: thrift.New(int32(AttributeKeys) + 1)}
	list := []format.SchemaElement{root}
	for _, s := range specs {
		if s.kind == kindMapKey {
			m := format.SchemaElement{
				Name: mapName, RepetitionType: thrift.New(format.Required), NumChildren: thrift.New(int32(1)),
				LogicalType: format.LogicalType{Value: &format.MapType{}},
			}
			m.ConvertedType.V, m.ConvertedType.Valid = convertedMap, true
			pairs := format.SchemaElement{Name: "key_value", RepetitionType: thrift.New(format.Repeated), NumChildren: thrift.New(int32(2))}
			list = append(list, m, pairs)
		}
		list = append(list, leafElement(s))
	}
	return list
}

func leafElement(s spec) format.SchemaElement {
	e := format.SchemaElement{
		Name:           s.name[strings.LastIndexByte(s.name, '.')+1:],
		Type:           thrift.New(physical(s.kind)),
		RepetitionType: thrift.New(format.Required),
	}
	switch s.kind {
	case kindTime:
		unit := format.TimeUnit{Value: &format.NanoSeconds{}}
		e.LogicalType.Value = &format.TimestampType{IsAdjustedToUTC: true, Unit: unit}
	case kindNullInt:
		e.RepetitionType = thrift.New(format.Optional)
	case kindUUID:
		e.TypeLength = thrift.New(int32(16))
		e.LogicalType.Value = &format.UUIDType{}
	case kindID:
		e.TypeLength = thrift.New(int32(8))
	case kindText, kindMapKey, kindMapValue:
		e.LogicalType.Value = &format.StringType{}
		e.ConvertedType.V, e.ConvertedType.Valid = convertedUTF8, true
	}
	return e
}

func physical(k kind) format.Type {
	switch k {
	case kindTime, kindLong:
		return format.Int64
	case kindInt, kindNullInt:
		return format.Int32
	case kindBool:
		return format.Boolean
	case kindUUID, kindID:
		return format.FixedLenByteArray
	}
	return format.ByteArray
}

// add describes a row group.
func (f *footer) add(rows int, chunks *[numColumns]chunkMeta) {
	g := format.RowGroup{NumRows: int64(rows), FileOffset: chunks[0].offset, Ordinal: int16(min(len(f.meta.RowGroups), 1<<15-1))}
	g.SortingColumns = nil // true within a sealing window only, so not claimed
	for c := range chunks {
		m := &chunks[c]
		size := int64(m.dictLen) + int64(m.dataLen)
		g.Columns = append(g.Columns, format.ColumnChunk{MetaData: m.metadata(Column(c))})
		g.TotalByteSize += m.raw
		g.TotalCompressedSize += size
	}
	f.meta.RowGroups = append(f.meta.RowGroups, g)
	f.meta.NumRows += int64(rows)
}

func (m *chunkMeta) metadata(c Column) format.ColumnMetaData {
	d := format.ColumnMetaData{
		Type:                  physical(specs[c].kind),
		PathInSchema:          strings.Split(specs[c].name, "."),
		NumValues:             m.values,
		TotalUncompressedSize: m.raw,
		TotalCompressedSize:   int64(m.dictLen) + int64(m.dataLen),
		DataPageOffset:        m.offset + int64(m.dictLen),
	}
	switch specs[c].kind {
	case kindTime, kindLong:
		d.Encoding = []format.Encoding{format.DeltaBinaryPacked}
	case kindBool, kindID:
		d.Encoding = []format.Encoding{format.Plain}
	default:
		d.DictionaryPageOffset = m.offset
		d.Encoding = []format.Encoding{format.Plain, format.RLEDictionary, format.RLE}
	}
	if m.compressed {
		d.Codec = format.Zstd
	}
	d.Statistics.NullCount, d.Statistics.MinValue, d.Statistics.MaxValue = m.nulls, m.low, m.high
	return d
}

// encode is the end of the file: metadata, its length, the magic.
func (f *footer) encode() ([]byte, error) {
	b, err := thrift.Marshal(new(thrift.CompactProtocol), &f.meta)
	if err != nil {
		return nil, fmt.Errorf("encode footer: %w", err)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(b)))
	return append(b, parquetMagic...), nil
}
