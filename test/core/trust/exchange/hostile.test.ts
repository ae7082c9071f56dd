// The exchange beside neighbours that are not honest, slow or unlucky: who is blamed for what, what a flood costs the
// others, and what an agent keeps in memory.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  createTrustExchange,
  type ExchangeEffect,
  type ExchangeSet,
  isTrustFrame,
  type TrustExchange
} from '../../../../src/core/trust/exchange/exchange.ts'
import {
  decodeTrustFrame,
  digestsFrame,
  headFrame,
  idsFrame,
  itemsFrames,
  type TrustFrame,
  wantFrame
} from '../../../../src/core/trust/exchange/frames.ts'
import { EXCHANGE_LIMITS, type ExchangeLimits } from '../../../../src/core/trust/exchange/limits.ts'
import type { Origin } from '../../../../src/core/model/values.ts'
import { encodeFrame, encodeMessage, decodeTrustItem, wire } from '../../../../src/core/wire/messages.ts'
import { BOUNDS, type Bounds } from '../../../../src/core/trust/set/bounds.ts'
import { shortOf, statementId } from '../../../../src/core/trust/set/ids.ts'
import type { TrustSet } from '../../../../src/core/trust/set/trust-set.ts'
import { addAll, RULES, type TestCluster, type TestSeat, type Thing, World } from '../set/world.ts'
import { VirtualMesh } from './virtual-mesh.ts'

const [HONEST, ROGUE] = ['honest' as Origin, 'rogue' as Origin]
const SECOND = 1000

describe('whom the exchange blames', () => {
  const cases: readonly (readonly [what: string, frame: (agent: Agent) => Uint8Array, blamed: RegExp])[] = [
    [
      'a root of another length',
      () => encodeFrame({ trustHead: { root: new Uint8Array(31), count: 1 } }),
      /root/
    ],
    [
      'digests of another length',
      () => encodeFrame({ trustDigests: { digests: new Uint8Array(9), from: 0 } }),
      /digests/
    ],
    ['half an id', () => encodeFrame({ trustIds: { ids: new Uint8Array(17), next: 0 } }), /ids/],
    [
      'too many wanted ids',
      () => encodeFrame({ trustWant: { ids: new Uint8Array(16 * (EXCHANGE_LIMITS.wantIds + 1)) } }),
      /wanted ids/
    ],
    [
      'too many items',
      () => encodeFrame({ trustItems: { items: Array.from({ length: 129 }, () => new Uint8Array(1)) } }),
      /129 items/
    ],
    [
      'a frame of more than 64 KiB',
      () => encodeFrame({ trustItems: { items: [new Uint8Array(65_536)] } }),
      /longer/
    ],
    ['an item that is not decodable', () => push([Uint8Array.of(0xff)]), /not decodable/],
    ['a frame of replication', () => encodeFrame({ ping: { id: 1 } }), /none of the exchange/],
    [
      'a signature that is not valid',
      ({ world, seat }) => push([forged(world.grant(seat, agentOf(world), {}))]),
      /signature/
    ],
    [
      'the certificate of an agent',
      ({ world, founder }) => push([world.agent(founder, 1).item]),
      /not for the set/
    ],
    ['an invite', ({ world, seat }) => push([world.invite(seat, 'x').item]), /not for the set/]
  ]
  for (const [what, frame, blamed] of cases) {
    it(`a neighbour that sends ${what}`, () => {
      const agent = new Agent()
      const effects = agent.receive(ROGUE, frame(agent))
      const offence = effects.find(({ kind }) => kind === 'offence')
      assert.ok(offence?.kind === 'offence' && offence.peer === ROGUE, JSON.stringify(effects))
      assert.match(offence.reason, blamed)
      assert.ok(!effects.some(({ kind }) => kind === 'store'))
    })
  }

  const faultless: readonly (readonly [what: string, frame: (agent: Agent) => Uint8Array, reason: RegExp])[] =
    [
      [
        'a statement of an unknown kind',
        () => {
          // A body whose only field is one that no version has yet.
          const body = Uint8Array.of(0xba, 0x06, 0x01, 0x00)
          return push([encodeMessage<object>(wire.TrustItem, { statements: [{ body }] })])
        },
        /later version/
      ],
      [
        'a statement with a field that no version has yet',
        ({ world, seat }) => {
          const { item } = world.grant(seat, agentOf(world), {})
          const statements = decodeTrustItem(item)?.statements ?? assert.fail()
          const last = statements.at(-1) ?? assert.fail()
          const body = Uint8Array.from([...last.body, 0x82, 0x01, 0x00]) // field 16
          return push([
            encodeMessage<object>(wire.TrustItem, {
              statements: [...statements.slice(0, -1), { ...last, body }]
            })
          ])
        },
        /later version/
      ],
      [
        'an admission whose sponsor is not known here',
        ({ world, seat, founder }) => {
          const sponsor = world.join(seat, founder, 1, 'b')
          return push([world.join(seat, sponsor, 2, 'c').item])
        },
        /waits/
      ],
      ['ids without a question', () => idsFrame([], 0), /without a question/]
    ]
  for (const [what, frame, reason] of faultless) {
    it(`no neighbour that sends ${what}`, () => {
      const agent = new Agent()
      const effects = agent.receive(ROGUE, frame(agent))
      assert.deepEqual(
        effects.filter(({ kind }) => kind === 'offence'),
        []
      )
      const refused = effects.find(({ kind }) => kind === 'refused')
      assert.ok(refused?.kind === 'refused', JSON.stringify(effects))
      assert.match(refused.reason, reason)
    })
  }

  it('no neighbour that sends what only this set cuts', () => {
    const agent = new Agent({ bounds: { ...BOUNDS, smallStatements: 1 } })
    const things = Array.from({ length: 4 }, () => agent.world.grant(agent.seat, agent.founder, {}))
    const effects = agent.receive(HONEST, push(things.map(({ item }) => item)))
    assert.ok(effects.some(({ kind }) => kind === 'remove'))
    assert.ok(!effects.some(({ kind }) => kind === 'offence'))
  })

  it('takes a good copy after a forged one of another neighbour', () => {
    const agent = new Agent()
    const grant = agent.world.grant(agent.seat, agent.founder, {})
    agent.receive(ROGUE, push([forged(grant)]))
    assert.ok(!agent.set.has(grant.id))
    agent.receive(HONEST, push([grant.item]))
    assert.ok(agent.set.has(grant.id))
  })

  it('never throws, whatever bytes come', () => {
    const agent = new Agent()
    const anyFrame = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 4 }).map(push),
      fc.uint8Array({ maxLength: 64 }).map((ids) => encodeFrame({ trustWant: { ids } })),
      fc
        .tuple(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.nat())
        .map(([root, count]) => headFrame({ root, count })),
      fc.nat(2 ** 31).map((from) => digestsFrame(new Uint8Array(4096), from)),
      fc.nat(2 ** 31).map((next) => idsFrame([], next))
    )
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 6 }), (frames) => {
        for (const frame of frames) agent.receive(ROGUE, frame)
        agent.pass(SECOND)
      })
    )
  })

  it('knows its frames by the first tag', () => {
    assert.ok(isTrustFrame(idsFrame([], 0)) && isTrustFrame(push([])) && isTrustFrame(wantFrame([])))
    const others = [encodeFrame({ ping: { id: 1 } }), encodeFrame({ beacon: {} }), encodeFrame({ knock: {} })]
    for (const other of [...others, new Uint8Array(0)]) assert.ok(!isTrustFrame(other))
  })
})

describe('a flood of one neighbour', () => {
  it('delays the statement of another neighbour by one item, and by trimMs where bounds are exceeded', () => {
    for (const bounds of [BOUNDS, { ...BOUNDS, smallStatements: 50 }]) {
      const agent = new Agent({ bounds })
      const rogue = agent.world.seat()
      addAll(agent.set, [rogue])
      agent.pass(SECOND)
      const flood = Array.from({ length: 1000 }, () => agent.world.grant(rogue, agent.founder, {}))
      const honest = agent.world.join(agent.seat, agent.founder, 1, 'b')
      const before = agent.opened
      // The flood fills its queue again and again; the statement of the honest neighbour comes in the middle.
      const feed = (at: number) => {
        agent.receive(ROGUE, push(flood.slice(at, at + 100).map(({ item }) => item)))
      }
      for (let at = 0; at < 500; at += 100) feed(at)
      const openedBefore = agent.opened
      agent.receive(HONEST, push([honest.item]))
      let ms = 0
      while (!agent.set.has(honest.id) && ms < 10 * SECOND) {
        agent.pass(20)
        feed(500 + (ms % 500))
        ms += 20
      }
      assert.ok(agent.opened > before)
      assert.ok(ms <= EXCHANGE_LIMITS.trimMs + 40, `it took ${ms} ms`)
      assert.ok(bounds !== BOUNDS || agent.opened - openedBefore <= 2 * EXCHANGE_LIMITS.itemsPerCall + 8)
    }
  })

  it('is verified in calls of a few items each', () => {
    const agent = new Agent()
    const flood = Array.from({ length: 100 }, () => agent.world.grant(agent.seat, agent.founder, {}))
    agent.receive(ROGUE, push(flood.map(({ item }) => item)))
    assert.equal(agent.opened, EXCHANGE_LIMITS.itemsPerCall)
    for (let calls = 2; agent.opened < 100; calls++) {
      assert.ok(agent.exchange.tick(agent.nowMs).at(-1)?.kind === 'more')
      assert.equal(agent.opened, calls * EXCHANGE_LIMITS.itemsPerCall)
    }
  })

  it('costs no more verifications than the budget allows, and one cut in trimMs', () => {
    const agent = new Agent({ bounds: { ...BOUNDS, smallStatements: 10 } })
    const flood = Array.from({ length: 2000 }, () => agent.world.grant(agent.seat, agent.founder, {}))
    const { opened, cuts } = agent
    for (let ms = 0; ms < 5 * SECOND; ms += 20) {
      const at = (ms * 3) % 2000
      agent.receive(ROGUE, push(flood.slice(at, at + 60).map(({ item }) => item)))
      agent.pass(20)
    }
    const { itemsBurst, itemsPerSecond } = EXCHANGE_LIMITS
    assert.ok(agent.opened - opened <= itemsBurst + 5 * itemsPerSecond + 4)
    assert.ok(agent.cuts - cuts <= 6, `${agent.cuts - cuts} cuts`)
  })

  it('is verified once: what was cut is recognised without a signature', () => {
    const agent = new Agent({ bounds: { ...BOUNDS, smallStatements: 10 } })
    const flood = Array.from({ length: 100 }, () => agent.world.grant(agent.seat, agent.founder, {}))
    for (let round = 0; round < 20; round++) {
      agent.receive(ROGUE, push(flood.map(({ item }) => item)))
      agent.pass(SECOND)
    }
    assert.ok(agent.opened <= 100, `${agent.opened} items were verified`)
  })

  it('keeps memory within its limits', () => {
    const limits: Partial<ExchangeLimits> = {
      cutIds: 50,
      refusedIds: 20,
      waitingIds: 10,
      queueItems: 30,
      queueBytes: 20_000
    }
    const agent = new Agent({ bounds: { ...BOUNDS, smallStatements: 10 }, limits })
    const { world, seat, founder } = agent
    const unknown = world.join(seat, founder, 1, 'b')
    const floods = [
      () => world.grant(seat, founder, {}).item,
      () => forged(world.grant(seat, founder, {})),
      () => world.join(seat, unknown, 2, 'c').item
    ]
    for (let round = 0; round < 30; round++) {
      agent.receive(
        ROGUE,
        push(Array.from({ length: 30 }, (_, at) => floods[(at + round) % 3]?.() ?? new Uint8Array(0)))
      )
      agent.receive(ROGUE, headFrame({ root: world.crypto.random(32), count: 1 }))
      agent.receive(
        ROGUE,
        idsFrame(
          Array.from({ length: 500 }, () => shortOf(statementId(world.crypto.random(32)))),
          0
        )
      )
      agent.pass(100)
      const { items, bytes, remembered, asked } = agent.exchange.load()
      assert.ok(
        items <= 2 * 30 && bytes <= 20_000 && remembered <= 50 + 10 + 20 && asked <= EXCHANGE_LIMITS.wantIds
      )
    }
  })

  it('of questions is answered within the budget', () => {
    const agent = new Agent()
    let answers = 0
    for (let ms = 0; ms < 10 * SECOND; ms += 10) {
      answers += agent
        .receive(ROGUE, digestsFrame(new Uint8Array(4096), 0))
        .filter(isSendTo(ROGUE, 'ids')).length
      agent.pass(10)
    }
    assert.ok(answers <= EXCHANGE_LIMITS.questionsBurst + 10 * EXCHANGE_LIMITS.questionsPerSecond + 1)
    let items = 0
    const ids = Array.from(agent.set.ids(), shortOf)
    const wanted = Array.from({ length: 128 }, (_, at) => ids[at % ids.length] ?? shortOf(agent.seat.id))
    for (let ms = 0; ms < 10 * SECOND; ms += 10) {
      for (const effect of agent.receive(ROGUE, wantFrame(wanted)))
        if (isSendTo(ROGUE, 'items')(effect) && effect.kind === 'send') {
          const frame = decodeTrustFrame(effect.frame, EXCHANGE_LIMITS)
          items += frame.kind === 'items' ? frame.items.length : 0
        }
      agent.pass(10)
    }
    assert.ok(items <= EXCHANGE_LIMITS.servedBurst + 10 * EXCHANGE_LIMITS.servedPerSecond + 1)
  })
})

describe('what has not come', () => {
  it('is asked of another neighbour when the first one withholds it', () => {
    const agent = new Agent()
    const lacking = agent.world.join(agent.seat, agent.founder, 1, 'b')
    const head = { root: agent.world.crypto.random(32), count: 9 }
    for (const peer of [ROGUE, HONEST]) agent.receive(peer, headFrame(head))
    agent.pass(EXCHANGE_LIMITS.roundMs + 200)
    for (const peer of [ROGUE, HONEST]) agent.receive(peer, idsFrame([shortOf(lacking.id)], 0))
    assert.deepEqual(agent.wantsTo(HONEST), [])
    assert.deepEqual(agent.wantsTo(ROGUE), [shortOf(lacking.id)])
    let ms = 0
    while (agent.wantsTo(HONEST).length === 0 && ms < 60 * SECOND) ms += agent.pass(200)
    assert.ok(ms <= EXCHANGE_LIMITS.answerMs + 400, `it took ${ms} ms`)
    agent.receive(HONEST, itemsFrames([lacking.item], true, EXCHANGE_LIMITS)[0] ?? assert.fail())
    assert.ok(agent.set.has(lacking.id))
  })

  it('because its sponsor is not known is asked for after a while, and not in each comparison', () => {
    const agent = new Agent()
    const { world, seat, founder } = agent
    const waiting = world.join(seat, world.join(seat, founder, 1, 'b'), 2, 'c')
    agent.receive(HONEST, headFrame({ root: world.crypto.random(32), count: 9 }))
    const asked = (ms: number): number => {
      let wants = 0
      for (let left = ms; left > 0; left -= agent.pass(200)) {
        agent.receive(HONEST, idsFrame([shortOf(waiting.id)], 0))
        if (agent.wantsTo(HONEST).length === 0) continue
        wants++
        agent.forgetWants()
        agent.receive(HONEST, itemsFrames([waiting.item], true, EXCHANGE_LIMITS)[0] ?? assert.fail())
      }
      return wants
    }
    assert.equal(asked(EXCHANGE_LIMITS.waitingMs), 1)
    assert.ok(asked(60 * SECOND) >= 2)
  })

  it('because it waited for its sponsor, and the set dropped it, is asked for again', () => {
    const world = new World()
    const [seat, founder] = [world.seat(), world.found('a')]
    const sponsor = world.join(seat, founder, 1, 'b')
    const others = Array.from({ length: 6 }, (_, at) => world.join(seat, sponsor, 2 + at, `c${at}`))
    // One admission may wait; the others are dropped until their sponsor is known.
    const mesh = new VirtualMesh(world, { bounds: { ...BOUNDS, waiting: 1 } })
    const [one, other, third] = [mesh.member(), mesh.member(), mesh.member()]
    for (const thing of [seat, founder]) for (const member of [one, other, third]) member.add(thing)
    for (const thing of others) addAll(other.set, [sponsor, thing])
    // `one` gets the admissions without their sponsor's, as by a flood that lost it.
    mesh.link(one, third)
    mesh.run(2 * SECOND)
    one.carryOut(one.exchange.receive(third.origin, push(others.map(({ item }) => item)), mesh.nowMs))
    mesh.run(500)
    assert.ok(others.every(({ id }) => !one.set.has(id)))
    mesh.link(one, other)
    mesh.run(30 * SECOND)
    assert.deepEqual(one.ids(), other.ids())
    assert.ok(others.every(({ id }) => one.set.has(id)))
  })

  it('does not travel again to members that have it when one of them starts with an old store', () => {
    const world = new World()
    const [seat, founder] = [world.seat(), world.found('a')]
    const mesh = new VirtualMesh(world)
    const members = Array.from({ length: 8 }, () => mesh.member())
    for (const one of members) for (const other of members) mesh.link(one, other)
    const [old, ...others] = members
    if (old === undefined) assert.fail()
    const things = Array.from({ length: 60 }, (_, at) => world.join(seat, founder, 1 + at, `c${at}`))
    const first = others[0] ?? assert.fail()
    for (const thing of [seat, founder, ...things]) first.add(thing)
    mesh.run(20 * SECOND)
    for (const member of members) assert.deepEqual(member.ids(), first.ids())
    const { bytes } = mesh.sent
    old.restart(new Map())
    mesh.run(20 * SECOND)
    assert.deepEqual(old.ids(), first.ids())
    const size = things.reduce((sum, { item }) => sum + item.length, 0)
    assert.ok(
      mesh.sent.bytes - bytes < 3 * size + 8 * 2 * 8 * 1024,
      `${mesh.sent.bytes - bytes} bytes for ${size}`
    )
  })
})

/** One agent with a seat and a founding cluster, and two neighbours that the test plays. */
class Agent {
  readonly world = new World()
  readonly seat: TestSeat = this.world.seat()
  readonly founder: TestCluster = agentOf(this.world)
  readonly set: TrustSet
  readonly exchange: TrustExchange
  /** Items that were verified, and batches that exceeded a bound. */
  opened = 0
  cuts = 0
  nowMs = 1_000_000
  readonly #wants = new Map<Origin, readonly string[]>()

  constructor(options: { readonly bounds?: Bounds; readonly limits?: Partial<ExchangeLimits> } = {}) {
    const set = this.world.set(RULES, options.bounds ?? BOUNDS)
    this.set = addAll(set, [this.seat, this.founder])
    this.exchange = createTrustExchange({
      crypto: this.world.crypto,
      limits: options.limits ?? {},
      set: this.#counting(set)
    })
    // The rogue one is first in every list, so that the honest one depends on its turn.
    for (const peer of [ROGUE, HONEST])
      this.#note(this.exchange.peerUp(peer, this.exchange.head(), this.nowMs))
  }

  /** The set, with a count of what the exchange has it do. */
  #counting(set: TrustSet): ExchangeSet {
    return {
      get version() {
        return set.version
      },
      has: (id) => set.has(id),
      ids: () => set.ids(),
      itemOf: (id) => set.itemOf(id),
      open: (bytes) => {
        this.opened++
        return set.open(bytes)
      },
      addOpened: (items) => {
        const changes = set.addOpened(items)
        if (changes.cut.length > 0) this.cuts++
        return changes
      }
    }
  }

  receive(peer: Origin, frame: Uint8Array): readonly ExchangeEffect[] {
    return this.#note(this.exchange.receive(peer, frame, this.nowMs))
  }

  /** Lets time pass in ticks of 200 ms at most, with all work that is announced. */
  pass(ms: number): number {
    for (let left = ms; left > 0; left -= 200) {
      this.nowMs += Math.min(left, 200)
      for (let turns = 0; turns < 1000; turns++)
        if (!this.#note(this.exchange.tick(this.nowMs)).some(({ kind }) => kind === 'more')) break
    }
    return ms
  }

  /** The ids of the latest TrustWant to this neighbour. */
  wantsTo(peer: Origin): readonly string[] {
    return this.#wants.get(peer) ?? []
  }

  forgetWants(): void {
    this.#wants.clear()
  }

  #note(effects: readonly ExchangeEffect[]): readonly ExchangeEffect[] {
    for (const effect of effects) {
      if (effect.kind !== 'send') continue
      const frame = decodeTrustFrame(effect.frame, EXCHANGE_LIMITS)
      if (frame.kind === 'want') this.#wants.set(effect.to, frame.ids)
    }
    return effects
  }
}

const FOUNDERS = new WeakMap<World, TestCluster>()

/** The founding cluster of a world. */
function agentOf(world: World): TestCluster {
  const founder = FOUNDERS.get(world) ?? world.found('a')
  FOUNDERS.set(world, founder)
  return founder
}

function push(items: readonly Uint8Array[]): Uint8Array {
  const [frame, ...others] = itemsFrames(items, false, EXCHANGE_LIMITS)
  assert.deepEqual(others, [], 'it fits into one frame')
  return frame ?? encodeFrame({ trustItems: {} })
}

/** The item with a bit of the last signature changed. */
function forged({ item }: Thing): Uint8Array {
  const { statements } = decodeTrustItem(item) ?? assert.fail()
  const last = statements.at(-1) ?? assert.fail()
  const signature = new Uint8Array(last.signature)
  signature[0] = (signature[0] ?? 0) ^ 1
  return encodeMessage<object>(wire.TrustItem, {
    statements: [...statements.slice(0, -1), { ...last, signature }]
  })
}

function isSendTo(peer: Origin, kind: TrustFrame['kind']): (effect: ExchangeEffect) => boolean {
  return (effect) =>
    effect.kind === 'send' &&
    effect.to === peer &&
    decodeTrustFrame(effect.frame, EXCHANGE_LIMITS).kind === kind
}
