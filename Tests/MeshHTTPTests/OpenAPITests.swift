// SPDX-License-Identifier: Apache-2.0

import Foundation
import NIOCore
import NIOHTTP1
import Testing

@testable import MeshHTTP

@Suite struct `The description of the API` {
    private func document() throws -> [String: Any] {
        let data = Data(OpenAPI.document.readableBytesView)
        return try JSONSerialization.jsonObject(with: data) as? [String: Any] ?? [:]
    }

    @Test func `has every route, with what it is for, takes and answers`() throws {
        let paths = try #require(try document()["paths"] as? [String: [String: [String: Any]]])
        #expect(paths.values.reduce(0) { $0 + $1.count } == RouteTable.all.count)
        for (path, operations) in paths {
            for (method, operation) in operations {
                let name = "\(method) \(path)"
                #expect(operation["summary"] as? String != "", "\(name)")
                let answers = operation["responses"] as? [String: Any]
                #expect(answers?.keys.contains { $0.hasPrefix("2") } == true, "\(name)")
            }
        }
        #expect(OpenAPI.descriptions.count == RouteTable.all.count)
    }

    @Test func `describes every parameter that a route takes`() throws {
        let paths = try #require(try document()["paths"] as? [String: [String: [String: Any]]])
        for route in RouteTable.all {
            let path = route.template.replacing("*}", with: "}")
            let operation = paths[path]?[route.method.rawValue.lowercased()]
            let parameters = operation?["parameters"] as? [[String: Any]] ?? []
            let inQuery = parameters.filter { $0["in"] as? String == "query" }
            #expect(inQuery.compactMap { $0["name"] as? String } == route.parameters, "\(path)")
        }
    }

    @Test func `names each function of a client once`() throws {
        let paths = try #require(try document()["paths"] as? [String: [String: [String: Any]]])
        let names = paths.values.flatMap { $0.values.compactMap { $0["operationId"] as? String } }
        #expect(Set(names).count == RouteTable.all.count)
    }
}
