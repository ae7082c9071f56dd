import assert from 'node:assert/strict'
import { tokenDateWarnings } from '../../../src/app/enrolment/token-dates.ts'
import { encodeInviteToken } from '../../../src/core/trust/invite-token.ts'
import { crypto, DAY, EAST, invite, makeMesh, NOW } from '../../core/trust/fixtures.ts'

describe('the dates of a token by which a member let this cluster in', () => {
  const mesh = makeMesh()
  const { item: inviteItem, inviteSeed } = invite(mesh, EAST)
  const bootstrap = ['/ip4/192.0.2.1/tcp/7946/p2p/12D3KooWAxe729oPQK2oGcrEoVe76fC88QEWMnTtyrsbrXSbZW59']
  const token = encodeInviteToken(crypto, { roots: mesh.roots, inviteItem, inviteSeed, bootstrap })
  const at = (seconds: number, text: string | undefined = token) =>
    tokenDateWarnings(text, { crypto, nowMs: seconds * 1000 })

  it('cause no warning while the clock of this host lies within them', () => {
    assert.deepEqual(at(NOW), [])
    assert.deepEqual(at(NOW + DAY), [])
  })

  it('cause one that asks for a look at the clock when it lies outside', () => {
    for (const [seconds, text] of [
      [
        NOW - 1,
        /^the token is valid from 2026-11-23T00:00:00\.000Z, by the clock of this host, but a member let/
      ],
      [
        NOW + DAY + 1,
        /^the token was valid until 2026-11-24T00:00:00\.000Z, by the clock of this host, but a member let/
      ]
    ] as const) {
      const [warning, ...others] = at(seconds)
      assert.match(warning ?? '', text)
      assert.match(warning ?? '', /check the clock of this host$/)
      assert.deepEqual(others, [])
    }
  })

  it('cause none for a join with the key of the Secret, which has no token', () => {
    assert.deepEqual(tokenDateWarnings(undefined, { crypto, nowMs: 0 }), [])
  })
})
