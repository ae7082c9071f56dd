// A token as `meshctl invite` prints it, for commands that read it before they do anything with it.
import { encodeInviteToken } from '../../src/core/trust/invite-token.ts'
import { originOf } from '../../src/core/model/identity.ts'
import { crypto, DAY, EAST, invite, makeMesh } from '../core/trust/fixtures.ts'

export function makeToken(options: { readonly validSeconds?: number } = {}): string {
  const mesh = makeMesh()
  const nowSeconds = Math.floor(Date.now() / 1000)
  const { item, inviteSeed } = invite(mesh, {
    ...EAST,
    notBefore: nowSeconds - DAY,
    notAfter: nowSeconds + (options.validSeconds ?? 3600)
  })
  const peer = originOf(crypto.publicKeyOf(crypto.random(32)))
  return encodeInviteToken(crypto, {
    roots: mesh.roots,
    inviteItem: item,
    inviteSeed,
    bootstrap: [`/ip4/192.0.2.1/tcp/7946/p2p/${peer}`]
  })
}
