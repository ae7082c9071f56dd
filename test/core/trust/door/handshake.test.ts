// Two members that meet, and every peer that is not what it claims.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  ANSWER_FRAME_BYTES_MAX,
  DOOR_FRAME_BYTES_MAX,
  encodeReject
} from '../../../../src/core/trust/door/frames.ts'
import type { HandshakeCode } from '../../../../src/core/trust/door/codes.ts'
import { commonVersion } from '../../../../src/core/trust/door/hello.ts'
import type { HandshakeOutcome, HandshakeStep } from '../../../../src/core/trust/door/port.ts'
import { decodeFrame, encodeFrame } from '../../../../src/core/wire/messages.ts'
import { flipBit } from '../fixtures.ts'
import { type Actor, DoorWorld, meet, NOW_MS, rewrite, type Tampers, type Tamper } from './door-world.ts'

const world = new DoorWorld()
const seat = world.seat()
const west = world.found('west', ['10.1.0.0/16'])
const east = world.join(seat, west, 1, 'east', { pods: ['10.2.0.0/16'] })
const atWest = world.member(west, [west, east])
const atEast = world.member(east, [west, east])
const newcomer = world.newcomer(world.invite(seat, 'north'))
const foreign = new DoorWorld(2)
const foreigner = foreign.member(foreign.found('west'))
const TRUST_HEAD = { root: new Uint8Array(32).fill(7), count: 3 }

/** West is dialled by this actor. */
function dialled(by: Actor, tamper?: Tampers, remote = by.origin) {
  return meet(world.open(by, atWest.origin, true), world.open(atWest, remote, false), {
    ...(tamper && { tamper })
  })
}

describe('a handshake of two members', () => {
  it('accepts both, each with the credential of the other', () => {
    const shows = { ...atEast.shows, trustHead: TRUST_HEAD }
    const { outcomes, sent } = meet(
      world.open({ ...atEast, shows }, atWest.origin, true, NOW_MS + 90_000),
      world.open(atWest, atEast.origin, false)
    )
    const [east1, west1] = outcomes
    assert.ok(east1?.kind === 'accepted' && west1?.kind === 'accepted')
    assert.equal(east1.credential.cluster, 'west')
    assert.equal(west1.credential.cluster, 'east')
    assert.equal(west1.credential.origin, atEast.origin)
    assert.deepEqual([west1.standing, east1.standing], ['stands', 'stands'])
    assert.deepEqual([west1.software, west1.version], ['rhizome/test', 2])
    assert.deepEqual(
      { ...west1.trustHead, root: [...(west1.trustHead?.root ?? [])] },
      { ...TRUST_HEAD, root: [...TRUST_HEAD.root] }
    )
    assert.equal(east1.trustHead, undefined)
    assert.equal(west1.clockSkewSeconds, 90)
    assert.deepEqual(
      sent.map((frames) => frames.map((frame) => Object.keys(decodeFrame(frame) ?? {})[0])),
      [
        ['hello', 'proof'],
        ['hello', 'proof']
      ]
    )
  })

  it('sends nothing to an agent that has said nothing', () => {
    assert.deepEqual(world.open(atWest, atEast.origin, false).start(), [])
  })

  it('accepts a known cluster at any difference of clocks, and reports it', () => {
    const year = 365 * 86_400
    const { outcomes } = meet(
      world.open(atEast, atWest.origin, true, NOW_MS + year * 1000),
      world.open(atWest, atEast.origin, false)
    )
    assert.ok(outcomes[1]?.kind === 'accepted')
    assert.equal(outcomes[1].clockSkewSeconds, year)
  })

  it('accepts a member whose cluster is not known, or does not stand, for the exchange of the sets', () => {
    const strict = { ...atWest, set: world.set() }
    const unknown = meet(world.open(atEast, strict.origin, true), world.open(strict, atEast.origin, false))
    assert.ok(unknown.outcomes[1]?.kind === 'accepted')
    assert.equal(unknown.outcomes[1].standing, 'unknown')
    const verdict = {
      kind: 'fallen',
      code: 'barred',
      rule: 'S5',
      reason: 'a bar names its key',
      explain: []
    } as const
    const judge = { ...atWest, verdict }
    const fallen = meet(world.open(atEast, judge.origin, true), world.open(judge, atEast.origin, false))
    assert.ok(fallen.outcomes[1]?.kind === 'accepted')
    assert.equal(fallen.outcomes[1].standing, 'fallen')
  })

  it('agrees on the highest version that both speak', () => {
    const own = { versionMin: 2, versionMax: 4 }
    const table = [
      [1, 1, undefined],
      [1, 2, 2],
      [1, 9, 4],
      [3, 3, 3],
      [4, 8, 4],
      [5, 8, undefined],
      [4, 3, undefined]
    ] as const
    for (const [versionMin, versionMax, expected] of table)
      assert.equal(commonVersion(own, { versionMin, versionMax }), expected)
  })
})

/** Signs with another key than that of its credential. */
const impostor: Actor = { ...atEast, seed: world.crypto.random(32) }
const clone = atWest
const hello = (fields: object): readonly [Tamper] => [rewrite('hello', fields)]
const invite = decodeFrame(world.open(newcomer, atWest.origin, true).start()[0] ?? new Uint8Array())?.hello
  ?.invite
const eastCredential = atEast.shows.kind === 'member' ? atEast.shows.credential : new Uint8Array()
const withoutAgent = east.item
const otherAgent = world.agent(east, 1).item

/** What is wrong, what the door says, who dials, and what changes the frames on the way. */
type Row = readonly [string, HandshakeCode, RegExp, Actor, Tampers?]

describe('the dialled agent', () => {
  const table: readonly Row[] = [
    [
      'a newer protocol',
      'version',
      /dialling agent speaks protocol 3–9, the dialled agent protocol 2; upgrade the dialled agent/,
      atEast,
      hello({ versionMin: 3, versionMax: 9 })
    ],
    [
      'an older protocol',
      'version',
      /speaks protocol 1, .*; upgrade the dialling agent/,
      atEast,
      hello({ versionMin: 1, versionMax: 1 })
    ],
    [
      'a range that ends before it begins',
      'version',
      /protocol 3–1/,
      atEast,
      hello({ versionMin: 3, versionMax: 1 })
    ],
    [
      'an older protocol whose Hello has other fields',
      'version',
      /upgrade the dialling agent/,
      atEast,
      hello({ versionMin: 1, versionMax: 1, nonce: new Uint8Array(4) })
    ],
    [
      'another mesh',
      'mesh',
      /the dialling agent is in mesh-\w+, the dialled agent in mesh-\w+; use a token/,
      foreigner
    ],
    ['no mesh', 'mesh', /the dialling agent is in no mesh/, atEast, hello({ meshId: new Uint8Array(3) })],
    [
      'a credential of another mesh under our mesh id',
      'certificate',
      /credential of the dialling agent is refused: seat|clusterCert/,
      { ...foreigner, meshId: world.roots.meshId }
    ],
    ['our own PeerId', 'ownIdentity', /two agents run with one state; stop one/, clone],
    [
      'a damaged credential',
      'certificate',
      /is refused/,
      atEast,
      hello({ credential: flipBit(eastCredential, 900) })
    ],
    [
      'a credential that ends in an admission',
      'certificate',
      /ends in the certificate of an agent/,
      atEast,
      hello({ credential: withoutAgent })
    ],
    [
      'a credential of another agent',
      'certificate',
      /the credential belongs to 12D3/,
      atEast,
      hello({ credential: otherAgent })
    ],
    [
      'an invite in place of the credential',
      'certificate',
      /ends in the certificate of an agent/,
      atEast,
      hello({ credential: invite })
    ],
    [
      'a credential in place of the invite',
      'certificate',
      /of the kind agentCert in place of an invite/,
      atEast,
      hello({ credential: new Uint8Array(), invite: eastCredential })
    ],
    ['a short nonce', 'protocol', /nonce of 4 bytes/, atEast, hello({ nonce: new Uint8Array(4) })],
    ['both a credential and an invite', 'protocol', /a credential and an invite/, atEast, hello({ invite })],
    ['neither', 'protocol', /neither/, atEast, hello({ credential: new Uint8Array() })],
    [
      'a short trust head',
      'protocol',
      /trust head of 5 bytes/,
      atEast,
      hello({ trustHead: { root: new Uint8Array(5) } })
    ],
    ['a proof by another key', 'proof', /not valid for this connection/, impostor],
    [
      'a proof over another Hello',
      'proof',
      /not valid for this connection/,
      atEast,
      hello({ software: 'newer' })
    ],
    [
      'a proof over another Hello of its own',
      'proof',
      /not valid/,
      atEast,
      [undefined, (message, frame) => rewrite('hello', { unixSeconds: 1 })(message, frame)]
    ],
    [
      'a short signature',
      'protocol',
      /signature of 3 bytes/,
      atEast,
      [rewrite('proof', { signature: new Uint8Array(3) })]
    ]
  ]
  for (const [what, code, detail, dialler, tamper] of table)
    it(`refuses ${what} (${code}), and the peer hears why`, () => {
      // The last side that changes the Hello of the door is refused by the dialler first, which tells the door.
      const remote = dialler.origin
      const { outcomes, sent } = dialled(dialler, tamper, remote)
      const refusals = outcomes.filter((outcome) => outcome?.kind === 'refused')
      const own = refusals.find((outcome) => !outcome.byPeer)
      assert.ok(own, kinds(outcomes))
      assert.equal(own.code, code)
      assert.match(own.detail, detail)
      assert.ok(!outcomes.some((outcome) => outcome?.kind === 'accepted' && outcome === outcomes[1]))
      assert.ok(sent.flat().some((frame) => decodeFrame(frame)?.reject?.detail === own.detail))
    })

  it('says the same code and the same text on both sides', () => {
    const { outcomes } = dialled(atEast, hello({ meshId: new Uint8Array(32) }))
    const [heard, said] = outcomes
    assert.ok(heard?.kind === 'refused' && said?.kind === 'refused')
    assert.deepEqual([heard.code, heard.detail], [said.code, said.detail])
    assert.deepEqual([heard.byPeer, said.byPeer], [true, false])
  })

  it('is refused as a newcomer: it has nothing to prove itself with', () => {
    const { outcomes } = meet(
      world.open(atEast, newcomer.origin, true),
      world.open(newcomer, atEast.origin, false)
    )
    expectRefused(outcomes[1], 'busy', /has not joined the mesh yet; connect to a member/)
    assert.ok(outcomes[0]?.kind === 'refused' && outcomes[0].code === 'busy')
  })

  it('is refused when it answers with an invite', () => {
    const tamper = [undefined, rewrite('hello', { credential: new Uint8Array(), invite })] as const
    const { outcomes } = meet(
      world.open(atEast, atWest.origin, true),
      world.open(atWest, atEast.origin, false),
      {
        tamper
      }
    )
    expectRefused(outcomes[0], 'protocol', /the dialled agent shows an invite/)
  })

  it('refuses its own proof (reflection)', () => {
    const door = world.open(atWest, atEast.origin, false)
    const [eastHello] = world.open(atEast, atWest.origin, true).start()
    assert.ok(eastHello)
    const proof = door.receive(eastHello, NOW_MS).send[1]
    assert.ok(proof)
    expectRefused(door.receive(proof, NOW_MS).outcome, 'proof', /./)
  })

  it('refuses a proof with its own Hello and nonce sent back', () => {
    const door = world.open(atWest, atEast.origin, false)
    const [eastHello] = world.open(atEast, atWest.origin, true).start()
    assert.ok(eastHello)
    const ownHello = world.open(atWest, atEast.origin, true).start()[0]
    assert.ok(ownHello)
    expectRefused(door.receive(ownHello, NOW_MS).outcome, 'certificate', /belongs to/)
  })

  it('refuses a proof that was recorded on another connection (replay)', () => {
    const dialler = world.open(atEast, atWest.origin, true)
    const [eastHello] = dialler.start()
    assert.ok(eastHello)
    const [first, second] = [
      world.open(atWest, atEast.origin, false),
      world.open(atWest, atEast.origin, false)
    ]
    const [westHello, westProof] = first.receive(eastHello, NOW_MS).send
    assert.ok(westHello && westProof)
    dialler.receive(westHello, NOW_MS)
    const [recorded] = dialler.receive(westProof, NOW_MS).send
    assert.ok(recorded)
    second.receive(eastHello, NOW_MS)
    expectRefused(second.receive(recorded, NOW_MS).outcome, 'proof', /./)
    assert.equal(first.receive(recorded, NOW_MS).outcome?.kind, 'accepted')
  })

  it('refuses a proof that was made for a third agent (relay)', () => {
    const third = world.member(west, [west, east])
    const dialler = world.open(atEast, third.origin, true)
    const [eastHello] = dialler.start()
    assert.ok(eastHello)
    // The third agent hands everything on to West and back; Noise would not even let it have East's PeerId.
    const door = world.open(atWest, atEast.origin, false)
    const [westHello] = door.receive(eastHello, NOW_MS).send
    assert.ok(westHello)
    expectRefused(dialler.receive(westHello, NOW_MS).outcome, 'certificate', /belongs to/)
  })

  it('refuses a frame above its bound before it decodes it, and says nothing after the end', () => {
    const door = world.open(atWest, atEast.origin, false)
    expectRefused(
      door.receive(new Uint8Array(DOOR_FRAME_BYTES_MAX + 1), NOW_MS).outcome,
      'protocol',
      /16385 bytes/
    )
    assert.deepEqual(door.receive(new Uint8Array(3), NOW_MS), { send: [] })
    const dialler = world.open(atEast, atWest.origin, true)
    const step = dialler.receive(new Uint8Array(ANSWER_FRAME_BYTES_MAX + 1), NOW_MS)
    expectRefused(step.outcome, 'protocol', /65537 bytes/)
  })

  it('shows the text of a hostile peer short, without control characters, and opens nothing that it brings', () => {
    const nasty = `a\u0000\u001b[31m\u202e\n${'€'.repeat(400)}`
    const explain = Array.from({ length: 9 }, () => eastCredential)
    const reject = encodeFrame({ reject: { code: 99 as 1, detail: nasty, explain } })
    const door = world.open(atWest, atEast.origin, false)
    const { outcome, send } = door.receive(reject, NOW_MS)
    assert.ok(outcome?.kind === 'refused' && outcome.byPeer && outcome.code === 'unspecified')
    assert.deepEqual(send, [])
    assert.match(outcome.detail, /^a\[31m€+$/)
    assert.ok(new TextEncoder().encode(outcome.detail).length <= 300)
    assert.deepEqual([outcome.explain, outcome.proved], [[], false])
  })
})

describe('a credential of the largest rights', () => {
  it('fits into the frame of a Hello', () => {
    const names = Array.from(
      { length: 32 },
      (_, at) => `${'n'.repeat(61)}${String.fromCharCode(97 + (at % 26))}${at % 9}`
    )
    const prefixes = Array.from({ length: 32 }, (_, at) => `2001:db8:${at + 1}::/48`)
    const root = world.seat({ names: [...new Set(names)], prefixes })
    const child = world.seat({ under: root, names: [...new Set(names)], prefixes })
    const cluster = world.join(child, west, 9, names[0] ?? '', {
      pods: prefixes.slice(0, 16),
      services: prefixes.slice(16)
    })
    const member = world.member(cluster, [west, cluster])
    const [frame] = world.open(member, atWest.origin, true).start()
    assert.ok(frame && frame.length > 6000 && frame.length < DOOR_FRAME_BYTES_MAX, `${frame?.length} bytes`)
    assert.equal(dialled(member).outcomes[1]?.kind, 'accepted')
  })
})

describe('the order of messages', () => {
  it('has no transition but those of the page: any other frame ends the handshake', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(9), { maxLength: 6 }), fc.boolean(), (picks, initiator) => {
        const { own, frames } = stage(initiator)
        const taken: string[] = []
        let ended = false
        for (const pick of picks) {
          const [name, frame] = frames[pick % frames.length] ?? ['', new Uint8Array()]
          const step = own.receive(frame, NOW_MS)
          taken.push(name)
          if (ended) assert.ok(isNothing(step), `${taken.join(' ')}: it goes on after its end`)
          const { outcome } = step
          const good = taken.join(' ') === 'hello proof'
          if (good) assert.equal(outcome?.kind, 'accepted')
          else if (taken.join(' ') === 'hello') assert.equal(outcome, undefined)
          else if (!ended) assert.equal(outcome?.kind, 'refused', taken.join(' '))
          if (outcome !== undefined) ended = true
        }
      }),
      { numRuns: 300 }
    )
  })

  it('reads the last of two messages in one frame', () => {
    const { own, frames } = stage(false)
    const [helloFrame, proofFrame] = frames.map(([, frame]) => frame)
    assert.ok(helloFrame && proofFrame)
    expectRefused(
      own.receive(Uint8Array.from([...helloFrame, ...proofFrame]), NOW_MS).outcome,
      'protocol',
      /the message proof where hello was due/
    )
  })

  it('accepts no frame with any bit flipped', () => {
    const { frames } = stage(false)
    for (const at of [0, 1]) {
      const bits = (frames[at]?.[1].length ?? 0) * 8
      // Of the Hello, whose items are verified by other tests bit by bit, every 97th: a prime visits all positions of a byte.
      for (let bit = 0; bit < bits; bit += at === 0 ? 97 : 7) {
        const run = stage(false)
        const [first, second] = run.frames.map(([, frame]) => frame)
        assert.ok(first && second)
        const steps: HandshakeStep[] = [
          run.own.receive(at === 0 ? flipBit(first, bit) : first, NOW_MS),
          run.own.receive(at === 1 ? flipBit(second, bit) : second, NOW_MS)
        ]
        assert.ok(!steps.some(({ outcome }) => outcome?.kind === 'accepted'), `frame ${at}, bit ${bit}`)
      }
    }
  })

  it('never throws on any bytes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 4 }),
        fc.boolean(),
        (noise, initiator) => {
          const { own } = stage(initiator)
          for (const frame of noise) assert.notEqual(own.receive(frame, NOW_MS).outcome?.kind, 'accepted')
        }
      ),
      { numRuns: 200 }
    )
  })
})

/** One side at its beginning, and frames for it: what an honest peer would send on this connection, and others. */
function stage(initiator: boolean) {
  const own = world.open(initiator ? atEast : atWest, initiator ? atWest.origin : atEast.origin, initiator)
  const peer = world.open(initiator ? atWest : atEast, initiator ? atEast.origin : atWest.origin, !initiator)
  const sent: Uint8Array[] = [...peer.start()]
  if (initiator) sent.push(...peer.receive(own.start()[0] ?? new Uint8Array(), NOW_MS).send)
  else {
    // The dialled side answers a copy of the dialler; its nonce is the same, since the same side is asked twice.
    const [first] = sent
    assert.ok(first)
    const shadow = recorded(own, first)
    for (const frame of shadow) sent.push(...peer.receive(frame, NOW_MS).send)
  }
  const [helloFrame, proofFrame] = sent
  assert.ok(helloFrame && proofFrame)
  const frames: (readonly [string, Uint8Array])[] = [
    ['hello', helloFrame],
    ['proof', proofFrame],
    ['hello', helloFrame],
    ['proof', proofFrame],
    ['reject', encodeReject({ code: 'busy', detail: 'later' })],
    ['knock', encodeFrame({ knock: { clusterCert: new Uint8Array(100), signature: new Uint8Array(64) } })],
    ['admitted', encodeFrame({ admitted: { item: east.item } })],
    ['ping', encodeFrame({ ping: { id: 1 } })],
    ['trustItems', encodeFrame({ trustItems: { items: [east.item] } })],
    ['nothing', new Uint8Array()]
  ]
  return { own: rewound(own), frames }
}

/** Lets a side answer its Hello, and remembers the step, so that the same frame gets the same answer again. */
const answers = new WeakMap<object, { readonly frame: Uint8Array; readonly step: HandshakeStep }>()
function recorded(own: ReturnType<DoorWorld['open']>, frame: Uint8Array): readonly Uint8Array[] {
  const step = own.receive(frame, NOW_MS)
  answers.set(own, { frame, step })
  return step.send
}

/**
 * A dialled side has taken the honest Hello already, since the peer's proof covers the answer to it. Until that Hello
 * comes, frames go to a fresh side of the same state.
 */
function rewound(own: ReturnType<DoorWorld['open']>): ReturnType<DoorWorld['open']> {
  const first = answers.get(own)
  if (first === undefined) return own
  let current: ReturnType<DoorWorld['open']> | undefined
  return {
    ...own,
    receive(frame, nowMs) {
      if (current !== undefined) return current.receive(frame, nowMs)
      if (frame === first.frame) {
        current = own
        return first.step
      }
      current = world.open(atWest, atEast.origin, false)
      return current.receive(frame, nowMs)
    }
  }
}

function expectRefused(outcome: HandshakeOutcome | undefined, code: HandshakeCode, detail: RegExp): void {
  assert.ok(outcome?.kind === 'refused' && !outcome.byPeer, kinds([outcome]))
  assert.equal(outcome.code, code)
  assert.match(outcome.detail, detail)
}

/** Whether a side has said and decided nothing. */
function isNothing({ send, outcome }: HandshakeStep): boolean {
  return send.length === 0 && outcome === undefined
}

/** Outcomes in a few words: whole ones hold too many bytes for a failure. */
function kinds(outcomes: readonly (HandshakeOutcome | undefined)[]): string {
  return outcomes
    .map((one) => (one?.kind === 'refused' ? `${one.code}: ${one.detail}` : `${one?.kind}`))
    .join(' | ')
}
