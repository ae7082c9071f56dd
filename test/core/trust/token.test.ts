import assert from 'node:assert/strict'
import fc from 'fast-check'
import { issueAgentCertificate, redeem } from '../../../src/core/trust/issue.ts'
import { decodeToken, encodeToken, type TokenRefused } from '../../../src/core/trust/token.ts'
import { agentOf, crypto, DAY, EAST, invite, makeMesh, NOW } from './fixtures.ts'

const mesh = makeMesh()
const { inviteSeed, chain } = invite(mesh, EAST)
const member = agentOf(mesh.founder).chain.agentOrigin
const bootstrap = [`/ip4/203.0.113.7/tcp/4001/p2p/${member}`, `/dns4/west.example.org/tcp/4001/p2p/${member}`]
const text = encodeToken(crypto, { invite: chain, inviteSeed, bootstrap })
const options = { crypto, nowSeconds: NOW, meshId: undefined }

describe('token', () => {
  it('survives the way through text, with white space around and inside it', () => {
    for (const shown of [text, `  ${text}\n`, `${text.slice(0, 70)}\r\n${text.slice(70)}`]) {
      const token = decodeToken(shown, options)
      assert.ok(token.kind === 'token')
      assert.equal(token.invite.cluster, 'east')
      assert.deepEqual(token.bootstrap, bootstrap)
      assert.deepEqual(token.invite.bytes, chain.bytes)
    }
  })

  it('redeems to a cluster whose agents every member accepts', () => {
    const token = decodeToken(text, options)
    assert.ok(token.kind === 'token')
    const cluster = redeem({
      crypto,
      invite: token.invite,
      inviteSeed: token.inviteSeed,
      nowSeconds: NOW - 60
    })
    assert.equal(cluster.chain.kind, 'CLUSTER')
    const agent = issueAgentCertificate({
      crypto,
      clusterSeed: cluster.clusterSeed,
      chain: cluster.chain.bytes,
      agentSeed: crypto.random(32),
      node: 'gw',
      roles: ['gateway'],
      nowSeconds: NOW
    })
    assert.equal(agent.cluster, 'east')
  })

  const other = makeMesh()
  const table: readonly (readonly [
    string,
    TokenRefused['code'],
    RegExp,
    () => TokenRefused | { kind: 'token' }
  ])[] = [
    ['nothing', 'empty', /empty/, () => decodeToken(' \n', options)],
    ['a word', 'notAToken', /starts with "rzm1_"/, () => decodeToken('hello', options)],
    ['a megabyte', 'notAToken', /not a token/, () => decodeToken(`rzm1_${'a'.repeat(1e6)}`, options)],
    [
      'a newer version',
      'newerVersion',
      /version 2, but this agent reads only version 1/,
      () => decodeToken(`rzm2_${text.slice(5)}`, options)
    ],
    ['a truncated one', 'damaged', /missing or mistyped/, () => decodeToken(text.slice(0, -7), options)],
    ['a bare prefix', 'damaged', /missing or mistyped/, () => decodeToken('rzm1_', options)],
    [
      'one with a foreign character',
      'damaged',
      /mistyped/,
      () => decodeToken(text.replace(/.$/, '%'), options)
    ],
    [
      'an expired one',
      'expired',
      /invite of east expired 24 hours ago, at 2026-11-24.* clock says 2026-11-25/,
      () => decodeToken(text, { ...options, nowSeconds: NOW + 2 * DAY })
    ],
    [
      'one of the future',
      'notYetValid',
      /becomes valid in 365 days/,
      () => decodeToken(text, { ...options, nowSeconds: NOW - 365 * DAY })
    ],
    [
      'one of another mesh',
      'foreign',
      /the token is for mesh-\w+; this agent is in mesh-\w+/,
      () => decodeToken(text, { ...options, meshId: other.meshId })
    ],
    [
      'one whose secret is another’s',
      'malformed',
      /secret does not belong/,
      () =>
        decodeToken(encodeToken(crypto, { invite: chain, inviteSeed: crypto.random(32), bootstrap }), options)
    ],
    [
      'one that carries a cluster',
      'malformed',
      /consists of: cluster; it must end in an invite/,
      () => decodeToken(encodeToken(crypto, { invite: mesh.founder.chain, inviteSeed, bootstrap }), options)
    ]
  ]
  for (const [what, code, message, decode] of table) {
    it(`refuses ${what} (${code}) and names the fix`, () => {
      const result = decode()
      assert.ok(result.kind === 'refused')
      assert.equal(result.code, code)
      assert.match(result.message, message)
      assert.ok(result.fix.length > 10)
      assert.ok(!result.message.includes(text.slice(10, 30)), 'quotes the secret')
    })
  }

  it('is not made without a bootstrap address, or with one that names no peer', () => {
    for (const bad of [
      [],
      ['/ip4/1.2.3.4/tcp/4001'],
      ['/ip4/1.2.3.4/tcp/1/p2p/Qm'],
      [`/ip4/1.2.3.4\n/p2p/${member}`]
    ]) {
      assert.throws(() => encodeToken(crypto, { invite: chain, inviteSeed, bootstrap: bad }), RangeError)
    }
  })

  it('is refused with any single bit of its text flipped', () => {
    for (let bit = 0; bit < text.length * 8; bit++) {
      const at = bit >> 3
      const flipped = String.fromCharCode(text.charCodeAt(at) ^ (1 << (bit & 7)))
      const damaged = text.slice(0, at) + flipped + text.slice(at + 1)
      assert.equal(decodeToken(damaged, options).kind, 'refused', `bit ${bit}`)
    }
  })

  it('never throws and never accepts random text', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 400 }), fc.base64String({ maxLength: 400 }), (a, b) => {
        for (const noise of [a, `rzm1_${a}`, `rzm1_${b}`, text + a + 'x']) {
          assert.equal(decodeToken(noise, options).kind, 'refused')
        }
      }),
      { numRuns: 300 }
    )
  })
})
