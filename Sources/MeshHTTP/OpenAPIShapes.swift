// SPDX-License-Identifier: Apache-2.0

internal import MeshAPI
internal import MeshReplication

extension OpenAPI {
    /// What a route is for, takes and answers.
    struct Description {
        let summary: String
        var body: Object?
        let answers: [Success]
    }

    struct Success {
        let status: Int
        let text: String
        /// By media type.
        var content: [String: Object] = [:]

        var object: Object {
            var object: Object = ["description": text]
            if !content.isEmpty { object["content"] = content.mapValues { ["schema": $0] } }
            return object
        }
    }

    private static var anything: Object { ["type": "object"] }
    private static var octets: Object { [:] }

    /// Types of values that generated clients know what to do with.
    private static var values: [String: Object] {
        [
            "application/json": [
                "type": ["object", "array", "string", "number", "boolean", "null"]
            ],
            "text/plain": ["type": "string"],
            "application/octet-stream": ["type": "string", "format": "binary"],
        ]
    }

    private static func json(_ status: Int, _ text: String, _ schema: Object) -> Success {
        Success(status: status, text: text, content: ["application/json": schema])
    }

    private static func json(_ summary: String, _ schema: Object? = nil) -> Description {
        Description(summary: summary, answers: [json(200, "It is there.", schema ?? anything)])
    }

    private static func bytes(_ summary: String) -> Description {
        Description(
            summary: summary,
            answers: [
                Success(
                    status: 200, text: "The bytes.", content: ["application/octet-stream": octets])
            ])
    }

    /// Something that proves itself and is brought in.
    private static func brought(
        _ summary: String, new: Int = 201, _ answers: [Success] = []
    ) -> Description {
        Description(
            summary: summary,
            body: [
                "required": true, "content": ["application/octet-stream": ["schema": octets]],
            ],
            answers: answers.isEmpty
                ? [json(200, "It was here.", anything), json(new, "It is new.", anything)]
                : answers)
    }

    private static var done: Success { Success(status: 204, text: "It is done.") }

    static var descriptions: [String: Description] {
        ofRecords.merging(ofServers) { $1 }.merging(ofTrust) { $1 }.merging(ofContent) { $1 }
    }

    private static var ofRecords: [String: Description] {
        let written = reference("Written")
        let pending = json(202, "It stands, and is not known to be as durable as asked.", written)
        let lines: Object = ["type": "string", "description": "A `Record` a line."]
        return [
            "GET /v1/records/{namespace}": Description(
                summary: "A page of values in the order of their keys.",
                answers: [
                    Success(
                        status: 200, text: "The page; as NDJSON, all of them.",
                        content: [
                            "application/json": reference("Records"), "application/x-ndjson": lines,
                        ])
                ]),
            "GET /v1/records/{namespace}/{key*}": Description(
                summary: "The value of a key.",
                answers: [
                    Success(
                        status: 200, text: "The value, under the type that it was written with.",
                        content: [
                            "application/octet-stream": ["type": "string", "format": "binary"],
                            "*/*": octets,
                        ]),
                    Success(status: 304, text: "It is what the client has."),
                ]),
            "PUT /v1/records/{namespace}/{key*}": Description(
                summary:
                    "Writes the value of a key; durable here once it is answered. Any other media type is kept, too.",
                body: ["required": true, "content": values.mapValues { ["schema": $0] }],
                answers: [
                    json(200, "It replaces a value.", written),
                    json(201, "Nothing was there.", written), pending,
                ]),
            "DELETE /v1/records/{namespace}/{key*}": Description(
                summary: "Deletes a key.",
                answers: [json(200, "Nothing is there any more.", written), pending]),
            "POST /v1/batch": Description(
                summary: "Writes of one namespace, all or none.",
                body: [
                    "required": true,
                    "content": ["application/json": ["schema": reference("Batch")]],
                ],
                answers: [
                    json(200, "All are durable here.", written),
                    Success(status: 204, text: "The same, for `Prefer: return=minimal`."),
                    pending,
                ]),
            "GET /v1/acknowledgements/{scope}/{place}": Description(
                summary: "How durable an earlier write of this server is now.",
                answers: [
                    json(200, "As durable as is asked for.", reference("Acknowledgement")),
                    json(202, "Not as durable, as far as is known.", reference("Acknowledgement")),
                ]),
            "GET /v1/changes": Description(
                summary: "What changed, and what changes from now on.",
                answers: [
                    Success(
                        status: 200, text: "Events, or a `Record` a line.",
                        content: ["text/event-stream": octets, "application/x-ndjson": lines])
                ]),
            "GET /v1/digest": json("What is held of every scope."),
            "GET /v1/digest/{scope}": json("What is held of a scope."),
            "GET /v1/namespaces": json("The namespaces."),
            "PUT /v1/namespaces/{namespace}": brought(
                "Brings the signed policy of a namespace in."),
            "GET /v1/export/{namespace}": Description(
                summary: "All of a namespace with its proofs.",
                answers: [
                    Success(
                        status: 200, text: "A line of JSON each.",
                        content: ["application/x-ndjson": ["type": "string"]])
                ]),
            "GET /v1/openapi.json": json("This description."),
        ]
    }

    private static var ofServers: [String: Description] {
        [
            "GET /metrics": Description(
                summary: "Figures for Prometheus.",
                answers: [
                    Success(
                        status: 200, text: "The figures.",
                        content: ["text/plain": ["type": "string"]])
                ]),
            "GET /v1/peers": json("The servers of the mesh."),
            "GET /v1/status": json("This server."),
            "GET /v1/discovery": json("How servers are found."),
            "GET /v1/why/{subject*}": json("What keeps something from being in step."),
            "POST /v1/leave": Description(
                summary: "Leaves the mesh, once another server holds all.",
                answers: [json(200, "This server may go.", anything)]),
            "POST /v1/sync": Description(
                summary: "Compares with every peer now.",
                answers: [Success(status: 202, text: "It begins.")]),
            "POST /v1/unlock/{server*}": Description(
                summary: "Allows a locked server its key.",
                answers: [json(202, "It gets it when it asks.", anything)]),
            "GET /v1/tokens": json("The tokens, without their secrets."),
            "POST /v1/tokens": Description(
                summary: "Makes a token.",
                body: [
                    "required": true,
                    "content": ["application/json": ["schema": reference("Token")]],
                ],
                answers: [json(201, "With its secret, once.", reference("Token"))]),
            "DELETE /v1/tokens/{name}": Description(
                summary: "Takes a token back.", answers: [done]),
        ]
    }

    private static var ofTrust: [String: Description] {
        [
            "GET /v1/certificates": json("Every certificate that is known."),
            "GET /v1/certificates/{server*}": json("The certificates of a server."),
            "GET /v1/enrolments": json("Servers that wait to be approved."),
            "POST /v1/enrolments": brought("Brings an approval in."),
            "GET /v1/root": json("The root document."),
            "PUT /v1/root": brought("Brings the next root document in.", new: 202),
            "PUT /v1/secret": brought("Brings a change of the mesh's secret in.", new: 202),
            "GET /v1/revocations": json("The revocations."),
            "GET /v1/revocations/{server*}": json("What a revocation of a server would mean."),
            "POST /v1/revocations": brought("Brings a revocation in."),
        ]
    }

    private static var ofContent: [String: Description] {
        let made = [json(201, "It is published.", anything)]
        return [
            "GET /v1/content": json("The channels."),
            "GET /v1/content/manifests/{manifest}": bytes("A manifest."),
            "GET /v1/content/latest/{channel}": bytes("The newest release of a channel."),
            "GET /v1/content/releases/{channel}/{release}": bytes("A release."),
            "GET /v1/content/chunks/{manifest}": bytes("Chunks."),
            "POST /v1/content/begin": brought(
                "Begins to publish.", [json(200, "What is missing.", anything)]),
            "POST /v1/content/chunks/{manifest}": brought("Brings chunks in.", [done]),
            "POST /v1/content/commit": brought("Publishes.", made),
            "POST /v1/content/rollback/{channel}": Description(
                summary: "Goes back to the release before.", answers: made),
            "POST /v1/content/verify/{channel}": json("Reads every chunk."),
        ]
    }
}
