// SPDX-License-Identifier: Apache-2.0

internal import MeshContent
internal import MeshCore
package import MeshReplication
internal import MeshTrust

/// The namespaces of the mesh itself, whose policies no record can change.
package enum BuiltIn {
    /// The policy of such a namespace; nil for any other.
    package static func policy(of namespace: String) -> NamespacePolicy? {
        switch namespace {
        case NamespacePolicy.meshNamespace: .mesh
        case ContentSpecification.namespace: .content
        case Revocation.namespace: .revocations
        case ContentSpecification.statusNamespace: .status
        case ContentSpecification.freshNamespace: .fresh
        default: nil
        }
    }

    /// Where the policies of a namespace stand; nil for a namespace of the mesh itself.
    package static func policyKey(of namespace: String) -> KeyName? {
        guard policy(of: namespace) == nil,
            let key = try? NamespacePolicy.key(of: namespace)
        else { return nil }
        return KeyName(scope: NamespacePolicy.scope, key: key)
    }
}
