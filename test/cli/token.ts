// A token as `meshctl invite` prints it, for commands that read it before they do anything with it.
import { createInvite, createMesh } from '../../src/core/trust/issue.ts'
import { encodeToken } from '../../src/core/trust/token.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import type { Cidr, ClusterName } from '../../src/core/model/values.ts'
import { originOf } from '../../src/core/model/identity.ts'

export function makeToken(options: { readonly validSeconds?: number } = {}): string {
  const crypto = createCrypto()
  const nowSeconds = Math.floor(Date.now() / 1000)
  const { rootSeed } = createMesh({
    crypto,
    cluster: 'west' as ClusterName,
    nowSeconds: nowSeconds - 100_000,
    podPrefixes: ['10.1.0.0/16' as Cidr],
    servicePrefixes: ['10.101.0.0/16' as Cidr]
  })
  const invite = createInvite({
    crypto,
    rootSeed,
    cluster: 'east' as ClusterName,
    podPrefixes: ['10.2.0.0/16' as Cidr],
    servicePrefixes: ['10.102.0.0/16' as Cidr],
    notBefore: nowSeconds - 90_000,
    notAfter: nowSeconds + (options.validSeconds ?? 3600)
  })
  const peer = originOf(crypto.publicKeyOf(crypto.random(32)))
  return encodeToken(crypto, {
    invite: invite.chain,
    inviteSeed: invite.inviteSeed,
    bootstrap: [`/ip4/192.0.2.1/tcp/7946/p2p/${peer}`]
  })
}
