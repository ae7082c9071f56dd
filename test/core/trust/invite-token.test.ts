// Tokens of invites, from the inviter's text to the newcomer's certificate.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { originOf } from '../../../src/core/model/identity.ts'
import { certifyCluster, createInvite } from '../../../src/core/trust/author/join.ts'
import { createMesh } from '../../../src/core/trust/author/mesh.ts'
import { decodeInviteToken, encodeInviteToken } from '../../../src/core/trust/invite-token.ts'
import type { Cidr } from '../../../src/core/model/values.ts'
import type { MeshRoots } from '../../../src/core/trust/set/mesh-roots.ts'
import type { TokenRefused } from '../../../src/core/trust/token-text.ts'
import { cidr, clusterName, crypto, DAY, NOW } from './fixtures.ts'

function found() {
  return createMesh({
    crypto,
    roots: { k: 1, number: 2 },
    cluster: clusterName('west'),
    pods: [cidr('10.1.0.0/16')],
    services: [],
    label: 'ann'
  })
}

const mesh = found()
const { roots } = mesh
const invite = createInvite(
  { crypto, roots },
  {
    seatItem: mesh.seatItem,
    adminSeed: mesh.adminSeed,
    cluster: clusterName('east'),
    pods: [cidr('10.2.0.0/16')],
    services: [],
    namespaces: [],
    notBefore: NOW,
    notAfter: NOW + DAY
  }
)
const member = originOf(crypto.publicKeyOf(crypto.random(32)))
const bootstrap = [`/ip4/203.0.113.7/tcp/4001/p2p/${member}`, `/dns4/west.example.org/tcp/4001/p2p/${member}`]
const made = { roots, inviteItem: invite.item, inviteSeed: invite.inviteSeed, bootstrap }
const text = encodeInviteToken(crypto, made)
const options = { crypto, nowSeconds: NOW, meshId: undefined }

function hexOf({ meshId, k, keys }: MeshRoots) {
  return [k, ...[meshId, ...keys].map((bytes) => Buffer.from(bytes).toString('hex'))]
}

describe('a token of an invite', () => {
  it('survives the way through text, with white space around and inside it', () => {
    assert.ok(text.startsWith('rzm2_'))
    for (const shown of [text, `  ${text}\n`, `${text.slice(0, 70)}\r\n${text.slice(70)}`]) {
      const token = decodeInviteToken(shown, options)
      assert.ok(token.kind === 'token')
      assert.equal(token.invite.cluster, 'east')
      assert.deepEqual(hexOf(token.roots), hexOf(roots))
      assert.deepEqual(token.bootstrap, bootstrap)
      assert.deepEqual(token.inviteItem, invite.item)
      assert.equal(token.warning, undefined)
    }
  })

  it('redeems to a certificate of the cluster', () => {
    const token = decodeInviteToken(text, { ...options, meshId: roots.meshId })
    assert.ok(token.kind === 'token')
    const { inviteItem, inviteSeed } = token
    const clusterSeed = crypto.random(32)
    certifyCluster({ crypto, roots: token.roots }, { inviteItem, inviteSeed, clusterSeed })
  })

  it('only warns where this host’s clock disagrees, because the sponsor decides', () => {
    for (const [nowSeconds, code, message] of [
      [NOW + 2 * DAY, 'expired', /valid until 2026-11-24T00:00:00.000Z/],
      [NOW - 1, 'notYetValid', /valid from 2026-11-23T00:00:00.000Z/]
    ] as const) {
      const token = decodeInviteToken(text, { ...options, nowSeconds })
      assert.ok(token.kind === 'token')
      assert.equal(token.warning?.code, code)
      assert.match(token.warning.message, message)
      assert.match(token.warning.fix, /clock/)
    }
  })

  const other = found()
  const rows: readonly (readonly [string, TokenRefused['code'], RegExp, string, Uint8Array?])[] = [
    ['nothing', 'empty', /empty/, ' \n'],
    ['a word', 'notAToken', /starts with "rzm2_"/, 'hello'],
    ['a megabyte', 'notAToken', /not a token/, `rzm2_${'a'.repeat(1e6)}`],
    [
      'a newer version',
      'newerVersion',
      /version 3, but this agent reads only version 2/,
      `rzm3_${text.slice(5)}`
    ],
    [
      'an older version',
      'olderVersion',
      /version 1, but this agent reads only version 2/,
      `rzm1_${text.slice(5)}`
    ],
    ['a truncated one', 'damaged', /missing or mistyped/, text.slice(0, -7)],
    ['a bare prefix', 'damaged', /missing or mistyped/, 'rzm2_'],
    ['one with a foreign character', 'damaged', /mistyped/, text.replace(/.$/, '%')],
    [
      'one of another mesh',
      'foreign',
      /the token is for mesh-\w+; this agent is in mesh-\w+/,
      text,
      other.roots.meshId
    ],
    [
      'one whose secret is another’s',
      'malformed',
      /secret does not belong/,
      encodeInviteToken(crypto, { ...made, inviteSeed: crypto.random(32) })
    ],
    [
      'one whose secret is cut',
      'malformed',
      /secret does not belong/,
      encodeInviteToken(crypto, { ...made, inviteSeed: made.inviteSeed.subarray(1) })
    ],
    [
      'one that carries a cluster',
      'malformed',
      /holds no invite/,
      encodeInviteToken(crypto, { ...made, inviteItem: mesh.clusterItem })
    ],
    [
      'one whose invite is of another mesh',
      'malformed',
      /its seat is refused: the signature is not valid/,
      encodeInviteToken(crypto, { ...made, roots: other.roots })
    ],
    [
      'one with roots that no mesh has',
      'malformed',
      /root keys/,
      encodeInviteToken(crypto, { ...made, roots: { k: 3, keys: roots.keys } })
    ]
  ]
  for (const [what, code, message, shown, meshId] of rows)
    it(`is refused as ${what} (${code}), with a fix`, () => {
      const result = decodeInviteToken(shown, { ...options, meshId })
      assert.ok(result.kind === 'refused')
      assert.equal(result.code, code)
      assert.match(result.message, message)
      assert.ok(result.fix.length > 10)
      assert.ok(!result.message.includes(text.slice(10, 30)), 'quotes the secret')
    })

  it('has the real prefixes that the inviter named, and no malformed or paired ones', () => {
    const realPrefixes = [
      { kind: 'pod', real: cidr('10.1.0.0/16') },
      { kind: 'service', real: cidr('fd00:1::/112') }
    ] as const
    const token = decodeInviteToken(encodeInviteToken(crypto, { ...made, realPrefixes }), options)
    assert.ok(token.kind === 'token')
    assert.deepEqual(token.realPrefixes, realPrefixes)
    const wrong = [
      [{ ...realPrefixes[0], virtual: cidr('10.128.0.0/16') }],
      [{ kind: 'node' as 'pod', real: cidr('10.1.0.0/16') }],
      [{ kind: 'pod', real: '10.1.0.1/16' as Cidr }],
      Array.from({ length: 65 }, () => realPrefixes[0])
    ] as const
    for (const each of wrong) {
      const result = decodeInviteToken(encodeInviteToken(crypto, { ...made, realPrefixes: each }), options)
      assert.equal(result.kind === 'refused' && result.code, 'malformed')
    }
  })

  it('is not made without a bootstrap address, or with one that names no peer', () => {
    const bad = [
      [],
      ['/ip4/1.2.3.4/tcp/4001'],
      ['/ip4/1.2.3.4/tcp/1/p2p/Qm'],
      [`/ip4/1.2.3.4\n/p2p/${member}`]
    ]
    for (const addresses of bad)
      assert.throws(() => encodeInviteToken(crypto, { ...made, bootstrap: addresses }), RangeError)
  })

  it('is refused with any single bit of its text flipped', () => {
    for (let bit = 0; bit < text.length * 8; bit++) {
      const at = bit >> 3
      const flipped = String.fromCharCode(text.charCodeAt(at) ^ (1 << (bit & 7)))
      const damaged = text.slice(0, at) + flipped + text.slice(at + 1)
      assert.equal(decodeInviteToken(damaged, options).kind, 'refused', `bit ${bit}`)
    }
  })

  it('never throws and never accepts random text', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 400 }), fc.base64String({ maxLength: 400 }), (a, b) => {
        for (const noise of [a, `rzm2_${a}`, `rzm2_${b}`, text + a + 'x'])
          assert.equal(decodeInviteToken(noise, options).kind, 'refused')
      }),
      { numRuns: 300 }
    )
  })
})
