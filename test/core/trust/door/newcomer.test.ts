// A newcomer and a sponsor, and either of them as a hostile one.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { HandshakeCode } from '../../../../src/core/trust/door/codes.ts'
import { decodeReject, encodeReject } from '../../../../src/core/trust/door/frames.ts'
import { judgeDoor, seatsOf, type Sponsor } from '../../../../src/core/trust/door/judge-door.ts'
import { rejectionOf } from '../../../../src/core/trust/door/fallen.ts'
import type { Answer, HandshakeOutcome, HandshakeStep } from '../../../../src/core/trust/door/port.ts'
import { knockParts, proofParts } from '../../../../src/core/trust/door/transcript.ts'
import { openCredential } from '../../../../src/core/trust/members/credential.ts'
import { encodeItem } from '../../../../src/core/trust/set/form.ts'
import { decodeFrame, encodeFrame } from '../../../../src/core/wire/messages.ts'
import { flipBit, NOW } from '../fixtures.ts'
import { addAll, look, type TestCluster } from '../set/world.ts'
import {
  type Actor,
  contains,
  DoorWorld,
  keyOf,
  meet,
  NOW_MS,
  rewrite,
  type Tamper,
  type Tampers
} from './door-world.ts'

const world = new DoorWorld()
const seat = world.seat()
const west = world.found('west', ['10.1.0.0/16'])
const east = world.join(seat, west, 1, 'east', { pods: ['10.2.0.0/16'] })

type Knock = Extract<HandshakeOutcome, { kind: 'knock' }>

/** An honest sponsor of this cluster: it decides by judgeDoor, and adds what it signs to its set. */
function sponsorOf(cluster: TestCluster, holds = [west, east]) {
  const actor = world.member(cluster, holds)
  const decide = (knock: Knock): Answer => {
    const { set } = actor
    set.addOpened([seatsOf(knock.item)])
    const verdict = judgeDoor({ set, ...look(set) }, knock, sponsor(actor))
    if (verdict.kind !== 'admit') return verdict
    const admitted = admission(knock, cluster, verdict.seen)
    addAll(set, [{ item: admitted } as Parameters<typeof addAll>[1][number]])
    return { kind: 'admitted', item: admitted }
  }
  return { actor, decide }
}

function sponsor(actor: Actor): Sponsor {
  assert.ok(actor.shows.kind === 'member')
  const credential = openCredential(actor.set, actor.shows.credential)
  assert.ok(credential.kind === 'credential')
  return {
    credential,
    clocks: { ownNow: NOW, neighbourSkews: new Map() },
    quota: () => undefined,
    underlay: () => undefined
  }
}

/** Signs an admission onto what a knock brought. */
function admission(
  { item }: Knock,
  by: TestCluster,
  seen: number,
  fields: { readonly signer?: TestCluster } = {}
): Uint8Array {
  const cert = item.statements.at(-1)?.statement
  assert.ok(cert?.kind === 'clusterCert' && cert.invite !== undefined)
  return world.sign(
    {
      kind: 'admission',
      invite: cert.invite,
      clusterKey: cert.clusterKey,
      sponsorKey: by.key,
      seen,
      time: NOW
    },
    { issuer: (fields.signer ?? by).seed },
    item.statements.map(({ envelope }) => envelope)
  ).item
}

/** A newcomer knocks at this door. */
function knock(
  newcomer: Actor,
  door: { readonly actor: Actor; readonly decide: (knock: Knock) => Answer },
  tamper?: Tampers
) {
  return meet(world.open(newcomer, door.actor.origin, true), world.open(door.actor, newcomer.origin, false), {
    decide: door.decide,
    ...(tamper && { tamper })
  })
}

describe('a newcomer at the door', () => {
  it('is admitted: the sponsor proves itself first, and the newcomer begins again as a member', () => {
    const door = sponsorOf(west)
    const newcomer = world.newcomer(world.invite(seat, 'north', { pods: ['10.4.0.0/16'] }))
    const { outcomes, sent } = knock(newcomer, door)
    const [admitted, knocked] = outcomes
    assert.ok(admitted?.kind === 'admitted' && knocked?.kind === 'knock', kinds(outcomes))
    assert.deepEqual(
      sent.map((frames) => frames.map((frame) => Object.keys(decodeFrame(frame) ?? {})[0])),
      [
        ['hello', 'knock'],
        ['hello', 'proof', 'admitted']
      ]
    )
    assert.equal(admitted.sponsor.cluster, 'west')
    assert.equal(admitted.sponsorItem, undefined)
    assert.equal(knocked.software, 'rhizome/test')
    // The second round, on the same connection and the same sides.
    const credential = world.sign(
      {
        kind: 'agentCert',
        clusterKey: keyOf(world, newcomer.clusterSeed),
        agentKey: keyOf(world, newcomer.seed),
        node: 'gw',
        roles: ['gateway'],
        generation: 1
      },
      { issuer: newcomer.clusterSeed, accepting: newcomer.seed },
      admitted.item.statements.map(({ envelope }) => envelope)
    ).item
    const member: Actor = { ...newcomer, shows: { kind: 'member', credential } }
    const again = meet(
      world.open(member, door.actor.origin, true),
      world.open(door.actor, member.origin, false)
    )
    assert.ok(again.outcomes[0]?.kind === 'accepted' && again.outcomes[1]?.kind === 'accepted')
    assert.equal(again.outcomes[1].credential.cluster, 'north')
    assert.equal(again.outcomes[1].standing, 'stands')
  })

  it('sends neither the seed of its invite nor those of its cluster and agent, to any door', () => {
    const invite = world.invite(seat, 'north', { pods: ['10.4.0.0/16'] })
    const newcomer = world.newcomer(invite)
    const hostile = sponsorOf(west)
    const runs = [
      knock(newcomer, sponsorOf(west)),
      knock(newcomer, { ...hostile, decide: () => ({ kind: 'admitted', item: east.item }) }),
      knock(newcomer, {
        ...hostile,
        decide: () => ({ kind: 'reject', code: 'busy', detail: 'later', explain: [] })
      }),
      knock(newcomer, hostile, [undefined, rewrite('proof', { signature: new Uint8Array(64) })]),
      knock(newcomer, hostile, [rewrite('hello', { software: 'x' })])
    ]
    for (const { sent } of runs) {
      assert.ok(sent[0].length > 0)
      for (const seed of [invite.seed, newcomer.clusterSeed, newcomer.seed])
        for (const secret of [seed, seed.subarray(0, 16), seed.subarray(16)])
          assert.ok(!contains(sent.flat(), secret))
    }
    // The search finds what is there.
    assert.ok(contains(runs[0]?.sent[0] ?? [], world.crypto.publicKeyOf(newcomer.clusterSeed)))
  })

  it('gets the same admission again with the same key, at that door and at another that knows it', () => {
    const invite = world.invite(seat, 'north')
    const newcomer = world.newcomer(invite)
    const first = sponsorOf(west)
    const admitted = knock(newcomer, first).outcomes[0]
    assert.ok(admitted?.kind === 'admitted')
    const sibling = world.newcomer(invite, newcomer.clusterSeed)
    const again = knock(sibling, first).outcomes[0]
    assert.ok(again?.kind === 'admitted')
    assert.deepEqual(again.bytes, admitted.bytes)
    const other = sponsorOf(east)
    other.actor.set.addOpened([admitted.item])
    const elsewhere = knock(sibling, other).outcomes[0]
    assert.ok(elsewhere?.kind === 'admitted', kinds([elsewhere]))
    assert.deepEqual(elsewhere.bytes, admitted.bytes)
    assert.equal(elsewhere.sponsor.cluster, 'east')
    assert.equal(elsewhere.sponsorItem?.statements.at(-1)?.statement.id, west.id)
  })

  it('gets a second admission at a door that does not know the first, and nothing comes of it', () => {
    const newcomer = world.newcomer(world.invite(seat, 'north', { pods: ['10.4.0.0/16'] }))
    const doors = [sponsorOf(west), sponsorOf(east)]
    const items = doors.map((door) => {
      const outcome = knock(newcomer, door).outcomes[0]
      assert.ok(outcome?.kind === 'admitted', kinds([outcome]))
      return outcome.item
    })
    const set = addAll(world.set(), [west, east])
    set.addOpened(items)
    const seen = look(set)
    const key = keyOf(world, newcomer.clusterSeed)
    assert.equal(set.admissions.size, 3)
    assert.equal(seen.ownership.names.get('north' as never), key)
    assert.deepEqual(seen.ownership.contested, [])
  })

  it('of two newcomers with one token at two doors both are admitted, and E1 settles them after that', () => {
    const invite = world.invite(seat, 'north', { pods: ['10.4.0.0/16'] })
    const [ann, bob] = [world.newcomer(invite), world.newcomer(invite)]
    const doors = [sponsorOf(west), sponsorOf(east)] as const
    const [atWest, atEast] = [knock(ann, doors[0]).outcomes[0], knock(bob, doors[1]).outcomes[0]]
    assert.ok(atWest?.kind === 'admitted' && atEast?.kind === 'admitted')
    for (const [door, own] of [
      [doors[0], ann],
      [doors[1], bob]
    ] as const) {
      const { set } = door.actor
      const before = look(set)
      set.addOpened([atWest.item, atEast.item])
      const after = look(set, { owners: before.owners })
      assert.equal(
        after.ownership.names.get('north' as never),
        keyOf(world, own.clusterSeed),
        'it keeps its first'
      )
      assert.equal(after.claims.names.get('north' as never)?.claimants.length, 2)
      assert.ok(after.ownership.contested.length > 0)
    }
    // Where both are known, a third key hears `used`; both keys get their admissions again.
    assert.equal(codeOf(knock(world.newcomer(invite), doors[0]).outcomes[0]), 'used')
    const back = knock(world.newcomer(invite, bob.clusterSeed), doors[0]).outcomes[0]
    assert.ok(back?.kind === 'admitted')
    assert.deepEqual(back.bytes, atEast.bytes)
  })

  it('hears code, text and the statements that explain a refusal, which it has checked', () => {
    const door = sponsorOf(west)
    const invite = world.invite(seat, 'north')
    const cancelled = world.void(seat, invite.id)
    addAll(door.actor.set, [seat, cancelled])
    const { outcomes } = knock(world.newcomer(invite), door)
    const [heard, said] = outcomes
    assert.ok(heard?.kind === 'refused' && said?.kind === 'refused')
    assert.deepEqual([heard.code, heard.byPeer, heard.proved], ['cancelled', true, true])
    assert.deepEqual([said.code, said.byPeer], ['cancelled', false])
    assert.match(heard.detail, /a void names it; ask an administrator of the mesh for a new token/)
    assert.deepEqual(
      heard.explain.map(({ statements }) => statements.at(-1)?.statement.id),
      [cancelled.id]
    )
    const newcomer = world.newcomer(invite)
    newcomer.set.addOpened(heard.explain)
    assert.ok(newcomer.set.has(cancelled.id))
  })

  it('knows that a refusal comes from a host that has not proved to be a member', () => {
    const door = sponsorOf(west)
    const reject = encodeReject({ code: 'used', detail: 'used' }, [east.item])
    const { outcomes } = knock(world.newcomer(world.invite(seat, 'north')), door, [undefined, () => reject])
    assert.ok(outcomes[0]?.kind === 'refused')
    assert.deepEqual([outcomes[0].proved, outcomes[0].explain], [false, []])
  })

  it('does not make a newcomer of a damaged identity', () => {
    const newcomer = world.newcomer(world.invite(seat, 'north'))
    const other = world.crypto.random(32)
    const { certItem, clusterSeed } = newcomer
    const open = (shows: { readonly certItem?: Uint8Array; readonly clusterSeed?: Uint8Array }) =>
      world.open(
        { ...newcomer, shows: { kind: 'newcomer', certItem, clusterSeed, ...shows } },
        newcomer.origin,
        true
      )
    assert.throws(() => open({ clusterSeed: other }), /of another key/)
    assert.throws(() => open({ certItem: flipBit(newcomer.certItem, 300) }), /damaged/)
    assert.throws(() => open({ certItem: east.item }), /does not end in/)
  })
})

describe('a hostile newcomer', () => {
  const foreign = new DoorWorld(2)
  const table: readonly (readonly [string, HandshakeCode, RegExp, (door: Actor) => [Actor, Tamper?]])[] = [
    [
      'an invite of another mesh',
      'certificate',
      /invite of the dialling agent is refused/,
      () => [{ ...foreign.newcomer(foreign.invite(foreign.seat(), 'north')), meshId: world.roots.meshId }]
    ],
    [
      'an invite that no seat signed',
      'certificate',
      /signature/,
      () => {
        const invite = world.invite(seat, 'north')
        return [
          world.newcomer(invite),
          rewrite('hello', { invite: flipBit(invite.item, invite.item.length * 8 - 9) })
        ]
      }
    ],
    [
      'a knock with a certificate of another invite',
      'certificate',
      /invite/,
      () => {
        const other = world.newcomer(world.invite(seat, 'south'))
        return [world.newcomer(world.invite(seat, 'north')), rewrite('knock', { clusterCert: certOf(other) })]
      }
    ],
    [
      'a knock for another key by the same invite',
      'proof',
      /not signed by its cluster key/,
      () => {
        const invite = world.invite(seat, 'north')
        return [world.newcomer(invite), rewrite('knock', { clusterCert: certOf(world.newcomer(invite)) })]
      }
    ],
    [
      'a knock with a founding certificate',
      'certificate',
      /./,
      () => [
        world.newcomer(world.invite(seat, 'north')),
        rewrite('knock', { clusterCert: west.envelopes[0] })
      ]
    ],
    [
      'a knock with a certificate that the key did not accept',
      'certificate',
      /acceptance/,
      () => {
        const invite = world.invite(seat, 'north')
        const victim = world.crypto.random(32)
        const { envelopes } = world.sign(
          {
            kind: 'clusterCert',
            invite: invite.id,
            name: 'north' as never,
            clusterKey: keyOf(world, victim),
            pods: [],
            services: []
          },
          { issuer: invite.seed, accepting: world.crypto.random(32) },
          []
        )
        return [world.newcomer(invite), rewrite('knock', { clusterCert: envelopes[0] })]
      }
    ],
    [
      'a knock whose Hello was changed on the way',
      'proof',
      /./,
      () => [world.newcomer(world.invite(seat, 'north')), rewrite('hello', { nonce: new Uint8Array(32) })]
    ],
    [
      'a knock with a certificate of two thousand bytes',
      'protocol',
      /certificate of 2000 bytes/,
      () => [
        world.newcomer(world.invite(seat, 'north')),
        rewrite('knock', { clusterCert: new Uint8Array(2000) })
      ]
    ],
    [
      'a proof in place of the knock',
      'protocol',
      /message proof where knock was due/,
      () => [
        world.newcomer(world.invite(seat, 'north')),
        (message, frame) =>
          message.knock === null ? frame : encodeFrame({ proof: { signature: new Uint8Array(64) } })
      ]
    ]
  ]
  for (const [what, code, detail, make] of table)
    it(`is refused with ${what} (${code})`, () => {
      const door = sponsorOf(west)
      const [actor, tamper] = make(door.actor)
      const { outcomes } = knock(actor, door, [tamper])
      const said = outcomes.find((outcome) => outcome?.kind === 'refused' && !outcome.byPeer)
      assert.ok(said?.kind === 'refused', kinds(outcomes))
      assert.equal(said.code, code, kinds(outcomes))
      assert.match(said.detail, detail)
      assert.notEqual(outcomes[1]?.kind, 'knock')
    })

  it('cannot use a knock that was made for another member, nonce or PeerId', () => {
    const invite = world.invite(seat, 'north')
    const newcomer = world.newcomer(invite)
    const [door, other] = [sponsorOf(west), sponsorOf(east)]
    const run = (from: Actor, to: Actor) => {
      const [own, at] = [world.open(from, to.origin, true), world.open(to, from.origin, false)]
      const [first] = own.start()
      assert.ok(first)
      const answers = at.receive(first, NOW_MS).send
      return { at, knocks: answers.flatMap((frame) => own.receive(frame, NOW_MS).send) }
    }
    const elsewhere = run(newcomer, other.actor).knocks[0]
    const earlier = run(newcomer, door.actor).knocks[0]
    assert.ok(elsewhere && earlier)
    for (const replayed of [elsewhere, earlier]) {
      const { outcome } = run(newcomer, door.actor).at.receive(replayed, NOW_MS)
      assert.equal(codeOf(outcome), 'proof')
    }
    // A thief that has the token, but not the cluster's key, replays the knock under a PeerId of its own.
    const thief: Actor = { ...newcomer, seed: world.crypto.random(32) }
    const { outcome } = run({ ...thief, origin: world.originOf(thief.seed) }, door.actor).at.receive(
      earlier,
      NOW_MS
    )
    assert.equal(codeOf(outcome), 'proof')
  })

  it('must be silent while the sponsor decides, and the sponsor answers once', () => {
    const door = sponsorOf(west)
    const newcomer = world.newcomer(world.invite(seat, 'north'))
    const ends = ['knock', 'talk'] as const
    for (const end of ends) {
      const { door: at, sent } = meet(
        world.open(newcomer, door.actor.origin, true),
        world.open(door.actor, newcomer.origin, false)
      )
      const again = sent[0][1]
      assert.ok(again)
      if (end === 'knock') {
        assert.equal(at.answer({ kind: 'admitted', item: east.item }).send.length, 1)
        assert.deepEqual(at.receive(again, NOW_MS), { send: [] })
      } else {
        const { outcome } = at.receive(again, NOW_MS)
        assert.equal(codeOf(outcome), 'protocol')
        assert.match(outcome?.kind === 'refused' ? outcome.detail : '', /knock where an answer was due/)
      }
      assert.deepEqual(at.answer({ kind: 'admitted', item: east.item }), { send: [] })
    }
    assert.deepEqual(
      world.open(door.actor, newcomer.origin, false).answer({ kind: 'admitted', item: east.item }),
      {
        send: []
      }
    )
  })

  it('finds no way in by any bit of its knock', () => {
    const door = sponsorOf(west)
    const newcomer = world.newcomer(world.invite(seat, 'north'))
    const own = world.open(newcomer, door.actor.origin, true)
    const [first] = own.start()
    assert.ok(first)
    const length = 300 * 8
    for (let bit = 0; bit < length; bit += 41) {
      const { outcomes } = knock(newcomer, door, [
        (message, frame) =>
          message.knock === null ? frame : flipBit(frame, Math.min(bit, frame.length * 8 - 1))
      ])
      assert.equal(outcomes[1]?.kind, 'refused', `bit ${bit}`)
    }
  })
})

describe('a hostile sponsor', () => {
  const stranger = world.found('stranger')
  const rogueSeed = world.crypto.random(32)
  /** A cluster that a token made by itself: it is well formed, and no member has admitted it. */
  const [invite, other] = [world.invite(seat, 'north'), world.invite(seat, 'south')]
  const table: readonly (readonly [string, RegExp, (knock: Knock) => Answer])[] = [
    ['an admission of another certificate', /of another cluster key/, () => answer(east.item)],
    [
      'an admission of this key by another invite',
      /by another invite/,
      () => answer(world.admit(other, west, 2, { seed: seed() }).item)
    ],
    ['what is no admission', /does not end in an admission/, (knock) => answer(knock.bytes)],
    ['a damaged admission', /signature|refused/, (knock) => answer(flipBit(admission(knock, west, 2), 4000))],
    [
      'an admission that another key signed than it names',
      /signature/,
      (knock) => answer(admission(knock, west, 2, { signer: east }))
    ],
    [
      "an admission by another cluster than the sponsor's",
      /signed by another cluster/,
      (knock) => answer(admission(knock, stranger, 2))
    ],
    [
      'an admission by another cluster, and the item of a third one',
      /another cluster than the one that signed/,
      (knock) => answer(admission(knock, stranger, 2), east.item)
    ],
    [
      'an admission by a cluster that is none',
      /another cluster than the one that signed|does not/,
      (knock) =>
        answer(admission(knock, { ...stranger, key: keyOf(world, rogueSeed), seed: rogueSeed }, 2), seat.item)
    ],
    [
      'an admission by another cluster, with a damaged item of it',
      /signer of the admission is refused/,
      (knock) => answer(admission(knock, stranger, 2), flipBit(stranger.item, 900))
    ],
    [
      'a place that is not above its own',
      /place 1, which is not above its sponsor's 1/,
      (knock) => answer(admission(knock, east, 1))
    ],
    [
      'a place at the end of the number range',
      /place 9007199254740991, and at most 2049 is plausible/,
      (knock) => answer(admission(knock, east, Number.MAX_SAFE_INTEGER))
    ]
  ]
  const newcomer = world.newcomer(invite)
  const seed = () => newcomer.clusterSeed
  for (const [what, detail, decide] of table)
    it(`is left when it answers with ${what}`, () => {
      const { actor } = sponsorOf(east)
      const { outcomes } = knock(newcomer, { actor, decide })
      const [said] = outcomes
      assert.ok(said?.kind === 'refused' && !said.byPeer, kinds(outcomes))
      assert.equal(said.code, 'certificate')
      assert.match(said.detail, detail)
      assert.match(said.detail, /; join through another member$/)
    })

  it('is left when it does not stand by what the newcomer knows', () => {
    const { actor, decide } = sponsorOf(east)
    const verdict = {
      kind: 'fallen',
      code: 'barred',
      rule: 'S5',
      reason: 'a bar names its key',
      explain: []
    } as const
    const { outcomes, sent } = knock({ ...newcomer, verdict }, { actor, decide })
    assert.equal(codeOf(outcomes[0]), 'barred')
    assert.match(
      outcomes[0]?.kind === 'refused' ? outcomes[0].detail : '',
      /the sponsor does not stand: a bar names/
    )
    assert.ok(!sent[0].some((frame) => decodeFrame(frame)?.knock), 'it does not knock')
  })

  it('is left when its proof is not valid, before the newcomer knocks', () => {
    const { actor, decide } = sponsorOf(east)
    const impostor = { ...actor, seed: world.crypto.random(32) }
    const { outcomes, sent } = knock(newcomer, { actor: impostor, decide })
    assert.equal(codeOf(outcomes[0]), 'proof')
    assert.ok(!sent[0].some((frame) => decodeFrame(frame)?.knock))
  })

  it('is taken at its word on a higher place when another cluster is replaced', () => {
    const replacing = world.newcomer(world.invite(seat, 'east', { replaces: east }))
    const { actor } = sponsorOf(west)
    const admit = (seen: number) =>
      knock(replacing, { actor, decide: (knocked) => answer(admission(knocked, west, seen)) }).outcomes[0]
    assert.equal(admit(1_000_000)?.kind, 'admitted')
    assert.equal(codeOf(admit(Number.MAX_SAFE_INTEGER)), 'certificate')
  })

  it('gets no transition but those of the page', () => {
    const { actor } = sponsorOf(east)
    fc.assert(
      fc.property(fc.array(fc.nat(6), { maxLength: 6 }), (picks) => {
        const own = world.open(newcomer, actor.origin, true)
        const at = world.open(actor, newcomer.origin, false)
        const answers = own.start().flatMap((frame) => at.receive(frame, NOW_MS).send)
        const [hello, proof] = answers
        assert.ok(hello && proof)
        const admitted = encodeFrame({ admitted: { item: admissionOf(newcomer, 2) } })
        const names = ['hello', 'proof', 'admitted', 'knock', 'reject', 'ping', 'hello']
        const frames = [
          hello,
          proof,
          admitted,
          encodeFrame({ knock: { clusterCert: certOf(newcomer), signature: new Uint8Array(64) } }),
          encodeReject({ code: 'busy', detail: 'later' }),
          encodeFrame({ ping: { id: 1 } }),
          hello
        ]
        const taken: string[] = []
        let ended = false
        for (const pick of picks) {
          const step: HandshakeStep = own.receive(frames[pick] ?? hello, NOW_MS)
          taken.push(names[pick] ?? '')
          const so = taken.join(' ')
          if (ended || so === 'hello') assert.ok(step.send.length === 0 && step.outcome === undefined, so)
          else if (so === 'hello proof') assert.ok(step.send.length === 1 && step.outcome === undefined)
          else if (so === 'hello proof admitted') assert.equal(step.outcome?.kind, 'admitted')
          else assert.equal(step.outcome?.kind, 'refused', so)
          if (step.outcome !== undefined) ended = true
        }
      }),
      { numRuns: 200 }
    )
  })

  function admissionOf(actor: { readonly clusterSeed: Uint8Array }, seen: number): Uint8Array {
    return world.admit(invite, east, seen, { seed: actor.clusterSeed }).item
  }
})

describe('an agent that does not stand', () => {
  it('hears after the exchange which statements cause it', () => {
    const bar = world.bar({ seat }, east)
    const set = addAll(world.set(), [west, east, bar])
    const { code, detail, explain } = rejectionOf(set, {
      kind: 'fallen',
      code: 'barred',
      rule: 'S5',
      reason: 'a bar names its key',
      explain: [bar.id]
    })
    const read = decodeReject(encodeReject({ code, detail }, explain))
    assert.equal(read?.code, 'barred')
    assert.match(
      read.detail,
      /the agent does not stand: a bar names its key; ask an administrator to take the bar back/
    )
    assert.deepEqual(read.explain, [bar.item])
    assert.equal(decodeReject(encodeFrame({ ping: { id: 1 } })), undefined)
    assert.equal(rejectionOf(set, { kind: 'unknown' }).code, 'unknownSponsor')
    const old = { kind: 'fallen', code: 'generation', rule: 'S8', reason: 'it is old', explain: [] } as const
    assert.match(rejectionOf(set, old).detail, /restart meshd on that agent/)
    assert.equal(rejectionOf(set, old).code, 'replaced')
  })
})

/** The knock's transcript is signed by the cluster key over the hash of the certificate: each part counts. */
describe('the signature of a knock', () => {
  it('covers mesh, both Hellos, both PeerIds in their order, and the certificate', () => {
    const side = (seed: number) => ({
      origin: world.originOf(new Uint8Array(32).fill(seed)),
      hello: new Uint8Array(40).fill(seed)
    })
    const base = { meshId: world.roots.meshId, signer: side(1), verifier: side(2) }
    const cert = new Uint8Array(9)
    const text = (of: typeof base, bytes = cert) =>
      Buffer.concat([...knockParts(world.crypto, of, bytes)]).toString('hex')
    const variants = [
      text(base),
      text({ ...base, meshId: new Uint8Array(32) }),
      text({ ...base, signer: { ...base.signer, hello: new Uint8Array(40) } }),
      text({ ...base, verifier: { ...base.verifier, hello: new Uint8Array(40) } }),
      text({ ...base, signer: { ...base.signer, origin: side(3).origin } }),
      text({ ...base, verifier: { ...base.verifier, origin: side(3).origin } }),
      text({ ...base, signer: base.verifier, verifier: base.signer }),
      text(base, new Uint8Array(8))
    ]
    assert.equal(new Set(variants).size, variants.length)
    // One seed may be both keys of a careless agent: a proof must not begin like a knock.
    assert.notDeepEqual(knockParts(world.crypto, base, cert)[0], proofParts(world.crypto, base)[0])
  })
})

function answer(item: Uint8Array, sponsor?: Uint8Array): Answer {
  return { kind: 'admitted', item, sponsor }
}

/** The encoded certificate of a newcomer. */
function certOf({
  certItem,
  set
}: {
  readonly certItem: Uint8Array
  readonly set: Actor['set']
}): Uint8Array {
  const item = set.open(certItem)
  assert.ok(item.kind === 'item')
  const envelope = item.statements.at(-1)?.envelope
  assert.ok(envelope && encodeItem([envelope]).length > 0)
  return envelope
}

function codeOf(outcome: HandshakeOutcome | undefined): HandshakeCode | undefined {
  return outcome?.kind === 'refused' ? outcome.code : undefined
}

function kinds(outcomes: readonly (HandshakeOutcome | undefined)[]): string {
  return outcomes
    .map((one) => (one?.kind === 'refused' ? `${one.code}: ${one.detail}` : `${one?.kind}`))
    .join(' | ')
}
