// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust

/// Why a program that embeds a node was refused.
public struct MeshError: Error, CustomStringConvertible {
    /// What happened, for a person.
    public let description: String
}

/// A key's value, as a program that embeds a node reads it.
public struct MeshValue: Sendable {
    /// What was written, as it came.
    public let body: [UInt8]
    /// The media type that the writer gave.
    public let contentType: String
    /// Names the key's state, for a write on condition.
    public let version: String
    /// Values that were written at the same time and live beside this one.
    public let siblings: Int
}

/// Records, for a program that runs a node within itself.
///
/// A namespace whose audience is a site means this node's site unless another is named.
extension MeshNode {
    /// Writes a value; returns when it is durable here, and goes to peers at once.
    ///
    /// - Parameters:
    ///   - body: at most 64 KiB.
    ///   - key: 1 to 512 bytes, components between slashes.
    ///   - version: the state that the writer saw; nil writes on any.
    /// - Returns: the key's new version.
    @discardableResult
    public func put(
        _ body: [UInt8], for key: String, in namespace: String, site: String? = nil,
        contentType: String = "application/octet-stream", ifVersion version: String? = nil
    ) async throws(MeshError) -> String {
        try await write(.put, key, namespace, site, contentType, body, version)
    }

    /// Deletes a key; the deletion stays as evidence that it was.
    public func delete(
        _ key: String, in namespace: String, site: String? = nil,
        ifVersion version: String? = nil
    ) async throws(MeshError) {
        _ = try await write(.delete, key, namespace, site, "", [], version)
    }

    /// Reads a value from this node's own disk; nil if there is none.
    public func value(
        for key: String, in namespace: String, site: String? = nil
    ) throws(MeshError) -> MeshValue? {
        let (scope, key) = try place(namespace, key, site)
        do {
            guard let state = try store.get(key, in: scope), let value = state.value else {
                return nil
            }
            return MeshValue(
                body: value.record.body, contentType: value.record.contentType,
                version: state.etag, siblings: state.versions.count - 1)
        } catch {
            throw MeshError(description: "\(error)")
        }
    }

    private func write(
        _ kind: Record.Kind, _ key: String, _ namespace: String, _ site: String?,
        _ contentType: String, _ body: [UInt8], _ version: String?
    ) async throws(MeshError) -> String {
        let (scope, key) = try place(namespace, key, site)
        let write = Write(
            kind, key, contentType: contentType, body: body,
            condition: version.map { .matches([$0]) } ?? .none)
        do throws(StoreError) {
            let receipts = try await store.write(WriteRequest(scope: scope, writes: [write]))
            return receipts.first?.etag ?? ""
        } catch {
            throw MeshError(description: "\(error)")
        }
    }

    private func place(
        _ namespace: String, _ key: String, _ site: String?
    ) throws(MeshError) -> (Scope, RecordKey) {
        let site = site ?? certificate.ticket.site
        guard !namespace.hasPrefix("_"), Name.isValid(site),
            let policy = try? store.policy(of: namespace)
        else { throw MeshError(description: "no namespace '\(namespace)' is known here") }
        let scope = policy.scope(of: namespace, site: site)
        guard certificate.allows(.read, scope) else {
            throw MeshError(description: "this node does not hold \(scope)")
        }
        do throws(KeyError) { return (scope, try RecordKey(key)) } catch {
            throw MeshError(description: "\(error)")
        }
    }
}
