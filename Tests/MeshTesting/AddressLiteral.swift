// SPDX-License-Identifier: Apache-2.0

public import MeshCore

/// Addresses in tests are written as they are read.
extension Address: ExpressibleByStringInterpolation {
    /// Takes an address that a test gives.
    public init(stringLiteral text: String) {
        guard let address = Address(text) else { preconditionFailure("'\(text)' is no address") }
        self = address
    }
}
