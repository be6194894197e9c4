package org.apache.iceberg;

import java.io.File;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import org.apache.iceberg.io.CloseableIterable;
import org.apache.iceberg.io.FileIO;
import org.apache.iceberg.io.InputFile;
import org.apache.iceberg.io.OutputFile;
import org.apache.iceberg.puffin.FileMetadata;
import org.apache.iceberg.puffin.FileMetadataParser;
import org.apache.iceberg.puffin.Puffin;
import org.apache.iceberg.puffin.PuffinReader;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.JsonNode;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.node.ArrayNode;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.node.ObjectNode;
import org.apache.iceberg.shaded.org.apache.avro.Schema.Field;
import org.apache.iceberg.shaded.org.apache.avro.Schema.Type;
import org.apache.iceberg.shaded.org.apache.avro.file.CodecFactory;
import org.apache.iceberg.shaded.org.apache.avro.file.DataFileReader;
import org.apache.iceberg.shaded.org.apache.avro.file.DataFileWriter;
import org.apache.iceberg.shaded.org.apache.avro.generic.GenericData;
import org.apache.iceberg.shaded.org.apache.avro.generic.GenericDatumReader;
import org.apache.iceberg.shaded.org.apache.avro.generic.GenericDatumWriter;
import org.apache.iceberg.shaded.org.apache.avro.generic.GenericFixed;
import org.apache.iceberg.shaded.org.apache.avro.generic.GenericRecord;
import org.apache.iceberg.view.ViewMetadataParser;

/**
 * What Iceberg's own parsers find in the files of tables: a job a line of the input, an answer a line of the output.
 *
 * <p>In Iceberg's package, as lists and entries are read by classes that others don't see.
 */
public class Parsers {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        for (String line : java.nio.file.Files.readAllLines(Path.of(args[0]))) {
            JsonNode job = JSON.readTree(line);
            ObjectNode answer = JSON.createObjectNode();
            try {
                answer = run(job);
            } catch (Exception | StackOverflowError e) {
                answer.put("error", e.getClass().getSimpleName() + ": " + e.getMessage());
            }
            System.out.println(answer.put("id", job.get("id").asInt()));
        }
    }

    private static ObjectNode run(JsonNode job) throws Exception {
        File file = new File(job.get("file").asText());
        return switch (job.get("kind").asText()) {
            case "table" -> table(TableMetadataParser.fromJson(java.nio.file.Files.readString(file.toPath())));
            case "view" -> {
                String json = java.nio.file.Files.readString(file.toPath());
                yield printed(ViewMetadataParser.toJson(ViewMetadataParser.fromJson(json)));
            }
            case "list" -> list(job, file);
            case "puffin" -> puffin(file);
            case "avro" -> avro(file);
            case "craft" -> craft(file, new File(job.get("out").asText()), job.get("nested").asBoolean());
            default -> throw new IllegalArgumentException("no such job: " + job);
        };
    }

    private static ObjectNode printed(String json) throws IOException {
        return JSON.createObjectNode().set("printed", JSON.readTree(json));
    }

    /** What Java prints of a table, and what it makes of it. */
    private static ObjectNode table(TableMetadata metadata) throws IOException {
        ObjectNode answer = printed(TableMetadataParser.toJson(metadata));
        ObjectNode made = answer.putObject("made");
        for (Schema schema : metadata.schemas()) {
            made.put("schema " + schema.schemaId(), schema + " " + schema.identifierFieldIds());
        }
        for (PartitionSpec spec : metadata.specs()) {
            made.put("spec " + spec.specId(), spec + " " + spec.partitionType());
        }
        for (SortOrder order : metadata.sortOrders()) {
            made.put("order " + order.orderId(), order.toString());
        }
        for (Snapshot snapshot : metadata.snapshots()) {
            ObjectNode of = made.putObject("snapshot " + snapshot.snapshotId());
            of.put("sequence", snapshot.sequenceNumber()).put("parent", snapshot.parentId()).put("time", snapshot.timestampMillis());
            of.put("schema", snapshot.schemaId()).put("operation", snapshot.operation()).put("list", snapshot.manifestListLocation());
            of.put("first_row", snapshot.firstRowId()).put("rows", snapshot.addedRows()).put("key", snapshot.keyId());
            of.set("summary", JSON.valueToTree(snapshot.summary()));
        }
        metadata.refs().forEach((name, reference) -> made.put("reference " + name, reference.toString()));
        Snapshot current = metadata.currentSnapshot();
        made.put("next row", metadata.nextRowId()).put("current", current == null ? null : current.snapshotId());
        return answer;
    }

    private static ObjectNode puffin(File file) throws IOException {
        try (PuffinReader reader = Puffin.read(Files.localInput(file)).build()) {
            FileMetadata metadata = reader.fileMetadata();
            ObjectNode answer = printed(FileMetadataParser.toJson(metadata, false));
            ArrayNode blobs = answer.putArray("blobs");
            reader.readAll(metadata.blobs()).forEach(blob -> blobs.add(hex(blob.second())));
            return answer;
        }
    }

    /** Files by the paths that the table has for them, wherever they are. */
    private record Local(JsonNode files) implements FileIO {
        @Override
        public InputFile newInputFile(String path) {
            return Files.localInput(new File(files.get(path).asText()));
        }

        @Override
        public InputFile newInputFile(ManifestFile manifest) {
            return newInputFile(manifest.path());
        }

        @Override
        public OutputFile newOutputFile(String path) {
            throw new UnsupportedOperationException();
        }

        @Override
        public void deleteFile(String path) {
            throw new UnsupportedOperationException();
        }
    }

    /** A list, and those of its manifests whose files are known. */
    private static ObjectNode list(JsonNode job, File file) throws IOException {
        String json = java.nio.file.Files.readString(Path.of(job.get("metadata").asText()));
        Map<Integer, PartitionSpec> specs = TableMetadataParser.fromJson(json).specsById();
        ObjectNode answer = JSON.createObjectNode();
        ArrayNode list = answer.putArray("list");
        ObjectNode manifests = answer.putObject("manifests");
        for (ManifestFile manifest : ManifestLists.read(Files.localInput(file))) {
            list.add(inList(manifest));
            if (job.get("manifests").has(manifest.path())) {
                ObjectNode found = manifests.putObject(manifest.path());
                try {
                    entries(manifest, new Local(job.get("manifests")), specs, found.putArray("entries"));
                } catch (Exception e) {
                    found.removeAll();
                    found.put("error", e.getClass().getSimpleName() + ": " + e.getMessage());
                }
            }
        }
        return answer;
    }

    private static ObjectNode inList(ManifestFile manifest) {
        ObjectNode json = JSON.createObjectNode()
            .put("path", manifest.path()).put("length", manifest.length()).put("spec", manifest.partitionSpecId())
            .put("content", manifest.content().id()).put("sequence", manifest.sequenceNumber())
            .put("min_sequence", manifest.minSequenceNumber()).put("snapshot", manifest.snapshotId())
            .put("added_files", manifest.addedFilesCount()).put("existing_files", manifest.existingFilesCount())
            .put("deleted_files", manifest.deletedFilesCount()).put("added_rows", manifest.addedRowsCount())
            .put("existing_rows", manifest.existingRowsCount()).put("deleted_rows", manifest.deletedRowsCount())
            .put("key", hex(manifest.keyMetadata())).put("first_row", manifest.firstRowId()).putNull("partitions");
        if (manifest.partitions() != null) {
            ArrayNode partitions = json.putArray("partitions");
            for (ManifestFile.PartitionFieldSummary summary : manifest.partitions()) {
                partitions.addObject().put("null", summary.containsNull()).put("nan", summary.containsNaN())
                    .put("lower", hex(summary.lowerBound())).put("upper", hex(summary.upperBound()));
            }
        }
        return json;
    }

    private static void entries(ManifestFile manifest, FileIO io, Map<Integer, PartitionSpec> specs, ArrayNode out)
            throws IOException {
        try (ManifestReader<?> reader = ManifestFiles.open(manifest, io, specs); CloseableIterable<?> entries = reader.entries()) {
            for (Object entry : entries) {
                out.add(inManifest((ManifestEntry<?>) entry));
            }
        }
    }

    private static ObjectNode inManifest(ManifestEntry<?> entry) {
        BaseFile<?> file = (BaseFile<?>) entry.file();
        ObjectNode json = JSON.createObjectNode()
            .put("status", entry.status().id()).put("snapshot", entry.snapshotId())
            .put("sequence", entry.dataSequenceNumber()).put("file_sequence", entry.fileSequenceNumber())
            .put("content", file.content().id()).put("path", file.location())
            .put("format", file.format().name().toLowerCase()).put("records", file.recordCount())
            .put("bytes", file.fileSizeInBytes()).put("key", hex(file.keyMetadata()))
            .put("sort_order", file.sortOrderId()).put("first_row", file.firstRowId())
            .put("referenced", file.referencedDataFile()).put("offset", file.contentOffset())
            .put("size", file.contentSizeInBytes());
        ArrayNode partition = json.putArray("partition");
        for (int i = 0; i < file.partition().size(); i++) {
            partition.add(value(file.partition().get(i, Object.class)));
        }
        map(json, "sizes", file.columnSizes(), JSON::valueToTree);
        map(json, "values", file.valueCounts(), JSON::valueToTree);
        map(json, "nulls", file.nullValueCounts(), JSON::valueToTree);
        map(json, "nans", file.nanValueCounts(), JSON::valueToTree);
        map(json, "lower", file.lowerBounds(), bound -> JSON.valueToTree(hex(bound)));
        map(json, "upper", file.upperBounds(), bound -> JSON.valueToTree(hex(bound)));
        json.set("splits", JSON.valueToTree(file.splitOffsets()));
        json.set("equality_ids", JSON.valueToTree(file.equalityFieldIds()));
        return json;
    }

    private static <T> void map(ObjectNode json, String name, Map<Integer, T> map, Function<T, JsonNode> value) {
        json.putNull(name);
        if (map != null) {
            ObjectNode object = json.putObject(name);
            map.forEach((id, of) -> object.set(id.toString(), value.apply(of)));
        }
    }

    private static String hex(ByteBuffer bytes) {
        if (bytes == null) {
            return null;
        }
        byte[] copy = new byte[bytes.remaining()];
        bytes.duplicate().get(copy);
        return HexFormat.of().formatHex(copy);
    }

    /** Numbers and texts as they are, all else so that no digit is lost. */
    private static JsonNode value(Object value) {
        if (value instanceof Float number) {
            return JSON.valueToTree(String.format("float %08x", Float.floatToRawIntBits(number)));
        } else if (value instanceof Double number) {
            return JSON.valueToTree(String.format("double %016x", Double.doubleToRawLongBits(number)));
        } else if (value instanceof BigDecimal number) {
            return JSON.valueToTree(number.unscaledValue() + "e-" + number.scale());
        } else if (value instanceof ByteBuffer bytes) {
            return JSON.valueToTree(hex(bytes));
        } else if (value instanceof byte[] bytes) {
            return JSON.valueToTree(HexFormat.of().formatHex(bytes));
        } else if (value instanceof CharSequence || value instanceof java.util.UUID) {
            return JSON.valueToTree(value.toString());
        }
        return JSON.valueToTree(value);
    }

    /** The records of a file as Avro has them, their fields by ids. */
    private static ObjectNode avro(File file) throws IOException {
        ObjectNode answer = JSON.createObjectNode();
        try (DataFileReader<GenericRecord> reader = new DataFileReader<>(file, new GenericDatumReader<>())) {
            answer.put("name", reader.getSchema().getName());
            ObjectNode header = answer.putObject("header");
            for (String key : reader.getMetaKeys()) {
                header.put(key, new String(reader.getMeta(key), java.nio.charset.StandardCharsets.UTF_8));
            }
            ArrayNode records = answer.putArray("records");
            reader.forEach(record -> records.add(generic(record)));
        }
        return answer;
    }

    private static JsonNode generic(Object value) {
        if (value instanceof GenericRecord record) {
            ObjectNode object = JSON.createObjectNode();
            for (Field field : record.getSchema().getFields()) {
                Object id = field.getObjectProp("field-id");
                object.set(id == null ? field.name() : id.toString(), generic(record.get(field.pos())));
            }
            return object;
        } else if (value instanceof GenericData.Array<?> pairs && "map".equals(pairs.getSchema().getProp("logicalType"))) {
            ObjectNode object = JSON.createObjectNode();
            for (Object pair : pairs) {
                GenericRecord record = (GenericRecord) pair;
                object.set(record.get("key").toString(), generic(record.get("value")));
            }
            return object;
        } else if (value instanceof Iterable<?> items) {
            ArrayNode array = JSON.createArrayNode();
            items.forEach(item -> array.add(generic(item)));
            return array;
        } else if (value instanceof Map<?, ?> map) {
            ObjectNode object = JSON.createObjectNode();
            map.forEach((key, of) -> object.set(key.toString(), generic(of)));
            return object;
        } else if (value instanceof GenericFixed fixed) {
            return value(fixed.bytes());
        } else if (value instanceof GenericData.EnumSymbol) {
            return JSON.valueToTree(value.toString());
        }
        return value(value);
    }

    /** A manifest or a list with fields that nobody knows, in each record that the format has and of each kind of Avro's types. */
    private static ObjectNode craft(File file, File out, boolean nested) throws IOException {
        try (DataFileReader<GenericRecord> reader = new DataFileReader<>(file, new GenericDatumReader<>())) {
            org.apache.iceberg.shaded.org.apache.avro.Schema schema = strewn(reader.getSchema(), nested ? NESTED : SIMPLE);
            try (DataFileWriter<GenericRecord> writer = new DataFileWriter<>(new GenericDatumWriter<>(schema))) {
                writer.setCodec(CodecFactory.deflateCodec(1));
                for (String key : reader.getMetaKeys()) {
                    if (!key.startsWith("avro.")) {
                        writer.setMeta(key, reader.getMeta(key));
                    }
                }
                writer.create(schema, out);
                int[] seed = {0};
                for (GenericRecord record : reader) {
                    writer.append((GenericRecord) filled(record, schema, seed));
                }
            }
        }
        return JSON.createObjectNode();
    }

    // Java reads no schema with a union of more types than null and one, and PyIceberg none with an enum: Esker's unit tests have those.
    private static final List<String> SIMPLE = List.of("['null','long']", "'string'", "'bytes'", "['null','double']");
    // PyIceberg reads no file with such a field that it does not know.
    private static final List<String> NESTED = List.of(
        "['null',{'type':'map','values':'double','key-id':9801,'value-id':9802}]",
        "{'type':'array','items':['null','int'],'element-id':9803}",
        "['null',{'type':'record','name':'later_N','fields':[{'name':'a','type':'boolean','field-id':9901},"
            + "{'name':'b','type':['null',{'type':'fixed','name':'four_N','size':4}],'default':null,'field-id':9902}]}]");

    private static org.apache.iceberg.shaded.org.apache.avro.Schema strewn(
            org.apache.iceberg.shaded.org.apache.avro.Schema schema, List<String> types) {
        switch (schema.getType()) {
            case UNION:
                return org.apache.iceberg.shaded.org.apache.avro.Schema.createUnion(
                    schema.getTypes().stream().map(type -> strewn(type, types)).toList());
            case ARRAY:
                var array = org.apache.iceberg.shaded.org.apache.avro.Schema.createArray(strewn(schema.getElementType(), types));
                schema.getObjectProps().forEach(array::addProp);
                return array;
            case RECORD:
                List<Field> fields = new ArrayList<>();
                for (Field field : schema.getFields()) {
                    // The fields of partitions are those of the table's spec, and a map's items are keys and values.
                    boolean closed = Integer.valueOf(PARTITION).equals(field.getObjectProp("field-id"));
                    fields.add(new Field(field, closed ? field.schema() : strewn(field.schema(), types)));
                }
                if (!schema.getName().matches("k\\d+_v\\d+")) {
                    for (int i = 0; i < types.size(); i++) {
                        String type = types.get(i).replace('\'', '"').replace("_N", "_" + schema.getName());
                        Field field = new Field("later_" + i, new org.apache.iceberg.shaded.org.apache.avro.Schema
                            .Parser().parse(type), "crafted", (Object) null);
                        field.addProp("field-id", UNKNOWN + i);
                        fields.add(i % 2 == 0 ? fields.size() : 0, field);
                    }
                }
                var record = org.apache.iceberg.shaded.org.apache.avro.Schema.createRecord(
                    schema.getName(), schema.getDoc(), schema.getNamespace(), false, fields);
                schema.getObjectProps().forEach(record::addProp);
                return record;
            default:
                return schema;
        }
    }

    private static final int PARTITION = 102;
    private static final int UNKNOWN = 9000;

    /** A value of the schema with more fields: the old ones as they were, the new ones made up. */
    private static Object filled(Object value, org.apache.iceberg.shaded.org.apache.avro.Schema schema, int[] seed) {
        switch (schema.getType()) {
            case UNION:
                Iterator<org.apache.iceberg.shaded.org.apache.avro.Schema> types = schema.getTypes().iterator();
                org.apache.iceberg.shaded.org.apache.avro.Schema type = types.next();
                return value == null ? null : filled(value, type.getType() == Type.NULL ? types.next() : type, seed);
            case ARRAY:
                List<Object> items = new ArrayList<>();
                ((Iterable<?>) value).forEach(item -> items.add(filled(item, schema.getElementType(), seed)));
                return items;
            case RECORD:
                GenericRecord from = (GenericRecord) value;
                GenericRecord to = new GenericData.Record(schema);
                for (Field field : schema.getFields()) {
                    boolean old = from.getSchema().getField(field.name()) != null;
                    Object of = old ? filled(from.get(field.name()), field.schema(), seed) : made(field.schema(), seed);
                    to.put(field.pos(), of);
                }
                return to;
            default:
                return value;
        }
    }

    private static Object made(org.apache.iceberg.shaded.org.apache.avro.Schema schema, int[] seed) {
        int n = seed[0]++;
        return switch (schema.getType()) {
            case NULL -> null;
            case BOOLEAN -> n % 2 == 0;
            case INT -> n * 31;
            case LONG -> n * 1_000_000_007L;
            case FLOAT -> n / 3f;
            case DOUBLE -> n / 7.0;
            case STRING -> "é" + n;
            case BYTES -> ByteBuffer.wrap(new byte[] {(byte) n, 1});
            case FIXED -> new GenericData.Fixed(schema, new byte[] {(byte) n, 2, 3, 4});
            case ENUM -> new GenericData.EnumSymbol(schema, schema.getEnumSymbols().get(n % 2));
            case UNION -> made(schema.getTypes().get(n % schema.getTypes().size()), seed);
            case ARRAY -> n % 3 == 0 ? List.of() : Collections.singletonList(made(schema.getElementType(), seed));
            case MAP -> Map.of("key", made(schema.getValueType(), seed));
            case RECORD -> {
                GenericRecord record = new GenericData.Record(schema);
                schema.getFields().forEach(field -> record.put(field.pos(), made(field.schema(), seed)));
                yield record;
            }
        };
    }
}
