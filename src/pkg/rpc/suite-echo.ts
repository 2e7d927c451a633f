import { create, type Message, toBinary } from "@bufbuild/protobuf";
import {
  fileDesc,
  type GenMessage,
  type GenService,
  messageDesc,
  serviceDesc,
} from "@bufbuild/protobuf/codegenv2";
import {
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FileDescriptorProtoSchema,
} from "@bufbuild/protobuf/wkt";

/** The one message of the test service. */
export type Chunk = Message<"test.rpc.v1.Chunk"> & {
  data: Uint8Array;
  count: number;
  text: string;
};

const field = (name: string, number: number, type: FieldDescriptorProto_Type) => ({
  name,
  jsonName: name,
  number,
  type,
  label: FieldDescriptorProto_Label.OPTIONAL,
});

const rpc = (name: string, clientStreaming: boolean, serverStreaming: boolean) => ({
  name,
  inputType: ".test.rpc.v1.Chunk",
  outputType: ".test.rpc.v1.Chunk",
  clientStreaming,
  serverStreaming,
});

const file = fileDesc(
  Buffer.from(
    toBinary(
      FileDescriptorProtoSchema,
      create(FileDescriptorProtoSchema, {
        name: "test/rpc/v1/echo.proto",
        package: "test.rpc.v1",
        syntax: "proto3",
        messageType: [
          {
            name: "Chunk",
            field: [
              field("data", 1, FieldDescriptorProto_Type.BYTES),
              field("count", 2, FieldDescriptorProto_Type.UINT32),
              field("text", 3, FieldDescriptorProto_Type.STRING),
            ],
          },
        ],
        service: [
          {
            name: "Echo",
            method: [
              rpc("Unary", false, false),
              rpc("Down", false, true),
              rpc("Up", true, false),
              rpc("Both", true, true),
              rpc("Missing", false, false),
            ],
          },
        ],
      }),
    ),
  ).toString("base64"),
);

export const ChunkSchema: GenMessage<Chunk> = messageDesc(file, 0);

type Rpc<K extends string> = {
  methodKind: K;
  input: typeof ChunkSchema;
  output: typeof ChunkSchema;
};

/** A service with a method of each kind, described in code; only tests serve it. */
export const Echo: GenService<{
  unary: Rpc<"unary">;
  down: Rpc<"server_streaming">;
  up: Rpc<"client_streaming">;
  both: Rpc<"bidi_streaming">;
  missing: Rpc<"unary">;
}> = serviceDesc(file, 0);
