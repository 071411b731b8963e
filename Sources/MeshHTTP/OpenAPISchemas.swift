// SPDX-License-Identifier: Apache-2.0

internal import MeshAPI

extension OpenAPI {
    /// The shapes of what apps read and write.
    static var schemas: [String: Object] {
        [
            "Problem": problem, "Record": record, "Records": records, "Written": written,
            "Acknowledgement": acknowledgement,
            "Batch": batch, "Token": token,
        ]
    }

    private static func text(_ description: String) -> Object {
        ["type": "string", "description": description]
    }

    private static func number(_ description: String) -> Object {
        ["type": "integer", "minimum": 0, "description": description]
    }

    private static func list(_ items: Object, _ description: String) -> Object {
        ["type": "array", "items": items, "description": description]
    }

    private static func object(
        _ properties: [String: Object], required: [String], isClosed: Bool = false
    ) -> Object {
        var object: Object = [
            "type": "object", "properties": properties, "required": required,
        ]
        if isClosed { object["additionalProperties"] = false }
        return object
    }

    private static var problem: Object {
        object(
            [
                "code": [
                    "type": "string", "enum": ErrorCode.allCases.map(\.rawValue),
                    "description": ErrorCode.allCases
                        .map { "`\($0.rawValue)`: \($0.entry.meaning)" }.joined(separator: "\n\n"),
                ],
                "title": text("What is wrong, in general."),
                "status": number("The status of HTTP."),
                "detail": text("What is wrong here, for people."),
            ], required: ["code", "title", "status", "detail"])
    }

    private static var record: Object {
        object(
            [
                "scope": text("Where it is held."), "key": text("Its key."),
                "content_type": text("The type that it was written with."),
                "text": text("The value, where it is UTF-8."),
                "base64": text("The value, where it is not."),
                "etag": text("The state of the key, for If-Match."),
                "deleted": ["type": "boolean"], "author": text("The server that wrote it."),
                "sequence": number("Its place in that server's log."),
                "written_ms": number("When, in milliseconds since 1970, by that server's clock."),
                "siblings": number("Other live versions of the key."),
                "twin": ["type": "boolean"],
                "cursor": text("Where the feed tells of it, for `since`."),
            ],
            required: [
                "scope", "key", "content_type", "etag", "deleted", "author", "sequence",
                "written_ms", "siblings",
            ])
    }

    private static var records: Object {
        object(
            [
                "v": number("The version of the API."),
                "records": list(reference("Record"), "In the order of their keys."),
                "next": text("The key to give as `after` for more; not there at the end."),
            ], required: ["v", "records"])
    }

    private static var written: Object {
        object(
            [
                "v": number("The version of the API."),
                "etags": list(["type": "string"], "The state of each key now."),
                "sequences": list(
                    number("0 where nothing had to be written."), "The place of each write."),
                "ask": text("Where to ask later; not there where it is reached."),
            ].merging(durability) { $1 },
            required: ["v", "etags", "sequences", "ack", "reached", "durable_on"])
    }

    private static var durability: [String: Object] {
        [
            "ack": text("How durable they were to be."),
            "reached": ["type": "boolean", "description": "Whether they are."],
            "durable_on": list(
                ["type": "string"], "Servers that hold them on their disks, `SITE/SERVER`."),
        ]
    }

    private static var acknowledgement: Object {
        object(
            ["v": number("The version of the API.")].merging(durability) { $1 },
            required: ["v", "ack", "reached", "durable_on"])
    }

    private static var batch: Object {
        let base64: Object = [
            "type": "string", "description": "A value as bytes.",
            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        ]
        let write: Object = [
            "oneOf": [
                put("value", ["description": "A value as JSON."]),
                put("text", text("A value as text.")), put("base64", base64),
                change(["op": ["const": "delete"]], required: []),
            ]
        ]
        return object(
            [
                "namespace": ["type": "string", "minLength": 1],
                "site": ["type": ["string", "null"]],
                "writes": list(write, "In their order."),
            ], required: ["namespace", "writes"], isClosed: true)
    }

    private static func put(_ name: String, _ value: Object) -> Object {
        let type: Object = [
            "type": ["string", "null"], "maxLength": 127, "pattern": "^[ -~]*$",
            "description": "Where none is given, that of how the value is.",
        ]
        return change(
            ["op": ["const": "put"], name: value, "content_type": type], required: [name])
    }

    /// A write with what it needs, under a condition or none.
    private static func change(_ members: [String: Object], required: [String]) -> Object {
        let common: [String: Object] = [
            "key": keySchema,
            "if_match": ["type": ["string", "null"]], "if_absent": ["type": ["boolean", "null"]],
        ]
        var write = object(
            common.merging(members) { $1 }, required: ["op", "key"] + required, isClosed: true)
        let both: Object = ["if_match": ["type": "string"], "if_absent": ["const": true]]
        write["not"] = ["properties": both, "required": ["if_match", "if_absent"]] as Object
        return write
    }

    private static var token: Object {
        object(
            [
                "name": text("Its name."),
                "allow": list(["type": "string"], "Grants: `orders:w`, `menu:r`."),
                "secret": text("What an app sends, told once."),
            ], required: ["name", "allow"])
    }
}
