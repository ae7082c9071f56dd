import assert from 'node:assert/strict'
import fc from 'fast-check'
import { createTrustStore, type TrustStore } from '../../../src/core/trust/trust-store.ts'
import {
  createHandshake,
  printable,
  REJECT_DETAIL_BYTES_MAX,
  type Handshake,
  type HandshakeCode,
  type HandshakeOutcome,
  type HandshakeStep
} from '../../../src/core/trust/handshake.ts'
import { decodeFrame, encodeFrame } from '../../../src/core/wire/messages.ts'
import { agentOf, crypto, DAY, EAST, flipBit, join, makeMesh, NOW, type TestAgent } from './fixtures.ts'

const mesh = makeMesh()
const west = agentOf(mesh.founder)
const east = agentOf(join(mesh, EAST))
const YEAR = 365 * DAY

interface Side {
  readonly agent: TestAgent
  readonly trustStore?: TrustStore
  readonly nowSeconds?: number
  readonly meshId?: Uint8Array
  /** Rewrites the Hello it sends. */
  readonly hello?: object
}

function trustStoreOf(...agents: readonly TestAgent[]): TrustStore {
  const trustStore = createTrustStore({ crypto, meshId: mesh.meshId })
  for (const agent of agents) trustStore.add(agent.chain)
  return trustStore
}

function open(side: Side, remote: TestAgent, initiator: boolean): Handshake {
  const { agent } = side
  return createHandshake({
    crypto,
    self: {
      origin: agent.chain.agentOrigin,
      seed: agent.seed,
      meshId: side.meshId ?? agent.chain.meshId,
      chain: agent.chain.bytes,
      software: 'rhizome/test'
    },
    remote: remote.chain.agentOrigin,
    trustStore: side.trustStore ?? trustStoreOf(agent),
    initiator,
    nowMs: (side.nowSeconds ?? NOW) * 1000
  })
}

/** Carries frames both ways until neither has more to say; the outcome of each side. */
function meet(
  dialler: Side,
  door: Side
): readonly [HandshakeOutcome | undefined, HandshakeOutcome | undefined] {
  const sides = [
    { ...dialler, handshake: open(dialler, door.agent, true) },
    { ...door, handshake: open(door, dialler.agent, false) }
  ] as const
  const outcomes: [HandshakeOutcome?, HandshakeOutcome?] = []
  const queue = sides.flatMap((side, from) =>
    side.handshake
      .start()
      .map((frame) => ({ from, frame: side.hello === undefined ? frame : rewriteHello(frame, side.hello) }))
  )
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const to = next.from === 0 ? 1 : 0
    const step: HandshakeStep = sides[to].handshake.receive(next.frame, (sides[to].nowSeconds ?? NOW) * 1000)
    if (step.outcome !== undefined) outcomes[to] = step.outcome
    queue.push(...step.send.map((frame) => ({ from: to, frame })))
  }
  return [outcomes[0], outcomes[1]]
}

function rewriteHello(frame: Uint8Array, fields: object): Uint8Array {
  const hello = decodeFrame(frame)?.hello
  assert.ok(hello)
  return encodeFrame({ hello: { ...hello, ...fields } })
}

describe('handshake', () => {
  it('admits two members of one mesh to each other', () => {
    const [atEast, atWest] = meet({ agent: east }, { agent: west })
    assert.ok(atEast?.kind === 'accepted' && atWest?.kind === 'accepted')
    assert.equal(atEast.chain.cluster, 'west')
    assert.equal(atWest.chain.cluster, 'east')
    assert.equal(atWest.software, 'rhizome/test')
  })

  const usurper = agentOf(join(mesh, { ...EAST, notBefore: NOW + 60 }))
  const overlapping = agentOf(join(mesh, { cluster: 'south', pods: ['10.1.128.0/17'] }))
  const foreign = agentOf(makeMesh().founder)
  const clone: TestAgent = { seed: west.seed, chain: west.chain }
  const newer = { versionMin: 2, versionMax: 3 }
  const late = NOW + 8 * DAY

  // What the door (west) says of the dialler, and whether the dialler hears it.
  const table: readonly (readonly [string, HandshakeCode, RegExp, Side, Side])[] = [
    [
      'a newer protocol',
      'version',
      /speaks protocol 2–3, and this agent protocol 1: upgrade this agent/,
      { agent: east, hello: newer },
      { agent: west }
    ],
    [
      'an older protocol',
      'version',
      /speaks protocol 0, and this agent protocol 1: upgrade the peer/,
      { agent: east, hello: { versionMin: 0, versionMax: 0 } },
      { agent: west }
    ],
    [
      'another mesh',
      'mesh',
      /the peer is in mesh-\w+, this agent in mesh-\w+/,
      { agent: foreign },
      { agent: west }
    ],
    [
      'a chain of another mesh under our mesh id',
      'mesh',
      /the chain belongs to mesh-/,
      { agent: foreign, meshId: mesh.meshId },
      { agent: west }
    ],
    [
      'our own PeerId',
      'ownIdentity',
      /own PeerId .* two agents run with one state/,
      { agent: clone },
      { agent: west }
    ],
    [
      'a chain of another agent',
      'certificate',
      /the certificate belongs to 12D3/,
      { agent: east, hello: { chain: usurper.chain.bytes } },
      { agent: west }
    ],
    [
      'a damaged chain',
      'certificate',
      /not issued by the certificate before it/,
      { agent: east, hello: { chain: flipBit(east.chain.bytes, 900) } },
      { agent: west }
    ],
    ['no chain', 'certificate', /./, { agent: east, hello: { chain: new Uint8Array(0) } }, { agent: west }],
    [
      'a short nonce',
      'protocol',
      /nonce of the peer has 4 bytes/,
      { agent: east, hello: { nonce: new Uint8Array(4) } },
      { agent: west }
    ],
    [
      'an expired agent certificate',
      'expired',
      /certificate of agent gw-1 expired 24 hours ago/,
      { agent: east, nowSeconds: late },
      { agent: west, nowSeconds: late, trustStore: trustStoreOf(west, east) }
    ],
    [
      'an expired invite of a stranger',
      'expired',
      /invite of east expired/,
      { agent: east, nowSeconds: NOW + 2 * DAY },
      { agent: west, nowSeconds: NOW + 2 * DAY }
    ],
    [
      'a clock that is a year behind',
      'clock',
      /the clock of the peer \(2026-11-23T00:00:00Z\) is 365 days behind that of this agent/,
      { agent: east },
      { agent: west, nowSeconds: NOW + YEAR }
    ],
    [
      'a clock that is a year ahead',
      'clock',
      /is 365 days ahead of that of this agent/,
      { agent: agentOf(join(mesh, EAST), 'gw', NOW + YEAR), nowSeconds: NOW + YEAR },
      { agent: west }
    ],
    [
      'a taken name',
      'nameTaken',
      /the name east belongs to another cluster/,
      { agent: usurper },
      { agent: west, trustStore: trustStoreOf(west, east) }
    ],
    [
      'an overlapping prefix',
      'prefixOverlap',
      /pod prefix 10\.1\.128\.0\/17 of south overlaps one of west/,
      { agent: overlapping },
      { agent: west }
    ],
    [
      'a proof by another key',
      'proof',
      /does not match/,
      { agent: { ...east, seed: crypto.random(32) } },
      { agent: west }
    ],
    [
      'a proof over another nonce',
      'proof',
      /does not match/,
      { agent: east, hello: { nonce: crypto.random(32) } },
      { agent: west }
    ],
    [
      'a denied cluster',
      'revoked',
      /gone/,
      { agent: east },
      { agent: west, trustStore: createTrustStore({ crypto, meshId: mesh.meshId, deny: () => 'gone' }) }
    ]
  ]
  for (const [what, code, detail, dialler, door] of table) {
    it(`refuses ${what} (${code}), and the peer hears why`, () => {
      const [atDialler, atDoor] = meet(dialler, door)
      assert.ok(atDoor?.kind === 'refused' && !atDoor.byPeer, JSON.stringify(atDoor))
      assert.equal(atDoor.code, code)
      assert.match(atDoor.detail, detail)
      assert.notEqual(atDialler, undefined)
      if (code !== 'proof') assert.equal(atDialler?.kind, 'refused')
      if (
        atDialler?.kind === 'refused' &&
        atDialler.byPeer &&
        code !== 'ownIdentity' &&
        code !== 'protocol'
      ) {
        assert.equal(atDialler.code, code)
        assert.equal(atDialler.detail, atDoor.detail)
      }
    })
  }

  it('admits a cluster that it knows when the invite is long over', () => {
    const now = NOW + 2 * DAY
    const [, atWest] = meet(
      { agent: east, nowSeconds: now },
      { agent: west, nowSeconds: now, trustStore: trustStoreOf(west, east) }
    )
    assert.equal(atWest?.kind, 'accepted')
  })

  it('lets a newcomer dial a member whose own invite is long over', () => {
    const now = NOW + 2 * DAY
    const newcomer = agentOf(
      join(mesh, { cluster: 'edge', pods: ['10.3.0.0/16'], notBefore: now }),
      'gw',
      now
    )
    const sides = [
      { agent: newcomer, nowSeconds: now },
      { agent: east, nowSeconds: now, trustStore: trustStoreOf(west, east) }
    ] as const
    assert.deepEqual(
      meet(...sides).map((outcome) => outcome?.kind),
      ['accepted', 'accepted']
    )
  })

  it('keeps a known cluster that lost a prefix connected', () => {
    const [, atWest] = meet(
      { agent: overlapping },
      { agent: west, trustStore: trustStoreOf(west, overlapping) }
    )
    assert.equal(atWest?.kind, 'accepted')
  })

  it('does not take its own proof back (reflection)', () => {
    const handshake = open({ agent: west }, east, false)
    const [ownHello] = handshake.start()
    assert.ok(ownHello)
    const [eastHello] = open({ agent: east }, west, true).start()
    assert.ok(eastHello)
    const { send } = handshake.receive(
      rewriteHello(eastHello, { nonce: decodeFrame(ownHello)?.hello?.nonce }),
      NOW * 1000
    )
    const proof = send[0]
    assert.ok(proof)
    expectRefused(handshake.receive(proof, NOW * 1000), 'proof')
  })

  it('does not take a proof that was recorded on another connection (replay)', () => {
    const [record, victim] = [open({ agent: east }, west, true), open({ agent: west }, east, false)]
    const first = open({ agent: west }, east, false)
    const [firstHello, eastHello] = [first.start()[0], record.start()[0]]
    assert.ok(firstHello && eastHello)
    const recorded = record.receive(firstHello, NOW * 1000).send[0]
    assert.ok(recorded)
    victim.start()
    assert.equal(victim.receive(eastHello, NOW * 1000).outcome, undefined)
    expectRefused(victim.receive(recorded, NOW * 1000), 'proof')
    assert.equal(first.receive(eastHello, NOW * 1000).outcome, undefined)
    assert.equal(first.receive(recorded, NOW * 1000).outcome?.kind, 'accepted')
  })

  it('reads nothing but Hello, Proof and Reject, and each only when it is due', () => {
    const hello = open({ agent: east }, west, true).start()[0]
    assert.ok(hello)
    const early = [
      { heads: { heads: [], all: true } },
      { ping: { id: 1 } },
      { delta: {} },
      { proof: { signature: new Uint8Array(64) } },
      {}
    ]
    for (const frame of early.map(encodeFrame)) {
      expectRefused(open({ agent: west }, east, false).receive(frame, NOW * 1000), 'protocol')
      const waiting = open({ agent: west }, east, false)
      waiting.receive(hello, NOW * 1000)
      const step = waiting.receive(frame, NOW * 1000)
      assert.equal(step.outcome?.kind, 'refused')
    }
    const twice = open({ agent: west }, east, false)
    twice.receive(hello, NOW * 1000)
    expectRefused(twice.receive(hello, NOW * 1000), 'protocol')
  })

  it('refuses a frame above 16 KiB before it is authenticated, and answers nothing after the end', () => {
    const handshake = open({ agent: west }, east, false)
    expectRefused(handshake.receive(new Uint8Array(16 * 1024 + 1), NOW * 1000), 'protocol')
    assert.deepEqual(handshake.receive(new Uint8Array(3), NOW * 1000), { send: [] })
  })

  it('shows the text of a hostile peer without control characters, and short', () => {
    const nasty = `a\u0000\u001b[31m\u202e\n${'€'.repeat(5000)}`
    const reject = encodeFrame({ reject: { code: 99 as 1, detail: nasty } })
    const { outcome, send } = open({ agent: west }, east, false).receive(reject, NOW * 1000)
    assert.ok(outcome?.kind === 'refused' && outcome.byPeer && outcome.code === 'unspecified')
    assert.deepEqual(send, [])
    assert.match(outcome.detail, /^a\[31m€+$/)
    assert.ok(new TextEncoder().encode(outcome.detail).length <= REJECT_DETAIL_BYTES_MAX)
    assert.equal(printable('plain – text'), 'plain – text')
  })

  it('refuses a Hello with any single bit of its chain flipped', () => {
    const [hello] = open({ agent: east }, west, true).start()
    assert.ok(hello)
    for (let bit = 0; bit < east.chain.bytes.length * 8; bit += 5) {
      const step = open({ agent: west }, east, false).receive(
        rewriteHello(hello, { chain: flipBit(east.chain.bytes, bit) }),
        NOW * 1000
      )
      assert.equal(step.outcome?.kind, 'refused', `bit ${bit}`)
    }
  })

  it('never throws and never accepts random or damaged frames', () => {
    const [hello] = open({ agent: east }, west, true).start()
    assert.ok(hello)
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 4 }),
        fc.nat(hello.length * 8 - 1),
        (noise, bit) => {
          const handshake = open({ agent: west }, east, false)
          handshake.start()
          for (const frame of [flipBit(hello, bit), ...noise, flipBit(hello, bit)]) {
            assert.notEqual(handshake.receive(frame, NOW * 1000).outcome?.kind, 'accepted')
          }
        }
      ),
      { numRuns: 300 }
    )
  })
})

function expectRefused(step: HandshakeStep, code: HandshakeCode): void {
  assert.ok(step.outcome?.kind === 'refused' && !step.outcome.byPeer, JSON.stringify(step.outcome))
  assert.equal(step.outcome.code, code)
}
