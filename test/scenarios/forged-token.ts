// A token that the administrator of a site has signed and of which its agent does not know: what two agents of one
// administrator would make at once, or a clock that was wrong.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInvite } from '../../src/core/trust/author/join.ts'
import { encodeInviteToken } from '../../src/core/trust/invite-token.ts'
import { meshRoots } from '../../src/core/trust/set/mesh-roots.ts'
import type { Cidr, ClusterName } from '../../src/core/model/values.ts'
import { originOf } from '../../src/core/model/identity.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import type { Identity } from '../../src/io/store/store.ts'
import { wanAddress, type Site } from '../demo/site.ts'

const VALID_SECONDS = 600

/** A token of 10 minutes that was made `agedSeconds` ago; its member is the gateway of `site`. */
export function forgedToken(
  site: Site,
  options: {
    readonly cluster: string
    readonly prefixes: readonly [pod: string, service: string]
    readonly agedSeconds?: number
  }
): string {
  const crypto = createCrypto()
  const { identity } = JSON.parse(readFileSync(join(site.state, 'identity.json'), 'utf8')) as {
    identity: Identity
  }
  const { mesh, seats: [seat] = [], nodeSeed } = identity
  if (mesh === undefined || seat === undefined) throw new Error(`${site.state} has no seat`)
  const roots = meshRoots(crypto, mesh.k, mesh.rootKeys.map(bytes))
  const [pod, service] = options.prefixes
  const notBefore = Math.floor(Date.now() / 1000) - (options.agedSeconds ?? 0)
  const { item: inviteItem, inviteSeed } = createInvite(
    { crypto, roots },
    {
      seatItem: bytes(seat.seatItem),
      adminSeed: bytes(seat.adminSeed),
      cluster: options.cluster as ClusterName,
      pods: [pod as Cidr],
      services: [service as Cidr],
      namespaces: [],
      notBefore,
      notAfter: notBefore + VALID_SECONDS
    }
  )
  const peerId = originOf(crypto.publicKeyOf(bytes(nodeSeed)))
  const bootstrap = [`/ip4/${wanAddress('west')}/tcp/7946/p2p/${peerId}`]
  return encodeInviteToken(crypto, { roots, inviteItem, inviteSeed, bootstrap })
}

function bytes(base64: string): Uint8Array {
  return new Uint8Array(Buffer.from(base64, 'base64'))
}
