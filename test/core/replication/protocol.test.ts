import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { deltaFrames } from '../../../src/core/replication/delta-frames.ts'
import { signHead } from '../../../src/core/replication/head.ts'
import type { ProtocolLimits } from '../../../src/core/replication/limits.ts'
import type { Origin, ServiceValue } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import {
  createProtocol,
  type Effect,
  type Persist,
  type Protocol
} from '../../../src/core/replication/protocol.ts'
import { decodeFrame, encodeFrame, type FrameMessage } from '../../../src/core/wire/messages.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { credentialOf, newAdmission } from '../../sim/mesh.ts'

const crypto = createCrypto()
const meshId = new Uint8Array(32).fill(7)
const [A, B, C] = [agent(1), agent(2), agent(3)]

describe('protocol', () => {
  it('persists an own batch before any frame that tells of it', () => {
    const protocol = start(A)
    protocol.peerUp(B.origin, 0)
    const effects = protocol.publish([service('web', 1)], 0)
    assert.deepEqual(
      effects.map(({ kind }) => kind),
      ['persist', 'send', 'changed']
    )
    assert.equal(sent(effects, B.origin)[0]?.delta?.operations[0]?.key, 'svc/shop/web')
  })

  it('does nothing for changes that change nothing', () => {
    const protocol = start(A)
    protocol.publish([service('web', 1)], 0)
    assert.deepEqual(protocol.publish([service('web', 1), { key: 'svc/shop/none', value: undefined }], 1), [])
  })

  it('sends first changes at once, and conflates those of one key when there are too many', () => {
    const protocol = start(A, [], { batchesBurst: 2, batchesPerSecond: 1 })
    for (const count of [1, 2]) assert.equal(persists(protocol.publish([service('web', count)], 0)).length, 1)
    for (const count of [3, 4]) assert.deepEqual(protocol.publish([service('web', count)], 100), [])
    assert.deepEqual(protocol.publish([service('api', 1)], 200), [])
    assert.deepEqual(persists(protocol.tick(400)), [])
    const [batch, ...rest] = persists(protocol.tick(1100))
    assert.deepEqual(
      batch?.operations.map(({ key, seq }) => [key, seq]),
      [
        ['svc/shop/web', 3],
        ['svc/shop/api', 4]
      ]
    )
    assert.deepEqual(rest, [])
    assert.deepEqual(persists(protocol.tick(5000)), [])
  })

  it('goes on at its persisted place after a restart', () => {
    const before = start(A)
    const [persisted] = persists(before.publish([service('web', 1), service('api', 1)], 0))
    assert.ok(persisted)
    const after = start(A)
    after.restore([stored(persisted)])
    assert.equal(after.records(A.origin).size, 2)
    const [next] = persists(after.publish([service('web', 2)], 0))
    assert.deepEqual([next?.epoch, next?.seq, next?.replace], [1, 3, false])
  })

  it('starts a new epoch when a neighbour shows a head of our own that we do not have', () => {
    const forgotten = start(A)
    forgotten.publish([service('web', 1)], 0)
    const [head] = forgotten.heads()
    assert.ok(head)
    const protocol = start(A)
    protocol.publish([service('api', 1)], 0)
    protocol.peerUp(B.origin, 0)
    const claim = { origin: A.origin, epoch: 1, seq: 5 }
    const pulls = sent(protocol.receive(B.origin, encodeFrame({ heads: { heads: [claim] } }), 0), B.origin)
    assert.deepEqual(
      pulls.map(({ pull }) => pull?.fromSeq),
      [5]
    )
    assert.equal(protocol.heads()[0]?.epoch, 1) // the claim alone changes nothing
    const effects = protocol.receive(B.origin, proofOf(A, { epoch: 1, seq: 5 }), 1)
    assert.deepEqual(
      effects.map(({ kind }) => kind),
      ['ownRollback', 'persist', 'send', 'changed']
    )
    const [persisted] = persists(effects)
    assert.deepEqual([persisted?.epoch, persisted?.seq, persisted?.replace], [2, 1, true])
  })

  it('writes in the new epoch, too, when it learns of its past before its first batch', () => {
    const protocol = start(A)
    protocol.peerUp(B.origin, 0)
    assert.deepEqual(kinds(protocol.receive(B.origin, proofOf(A, { epoch: 4, seq: 9 }), 0)), ['ownRollback'])
    assert.deepEqual(kinds(protocol.receive(B.origin, proofOf(A, { epoch: 4, seq: 9 }), 0)), [])
    assert.equal(persists(protocol.publish([service('web', 1)], 1))[0]?.epoch, 5)
  })

  it('believes no head of our own that another has signed', () => {
    const protocol = start(A)
    protocol.peerUp(B.origin, 0)
    const forged = proofOf({ ...A, seed: B.seed }, { epoch: 9, seq: 9 })
    assert.deepEqual(protocol.receive(B.origin, forged, 0), [
      { kind: 'refused', from: B.origin, reason: 'bad signature', isOffence: true }
    ])
  })

  it('takes nothing of an origin before its credential is admitted', () => {
    const c = start(C)
    const frames = pushOf(c, [service('web', 1)])
    const protocol = start(A)
    protocol.peerUp(B.origin, 0)
    const effects = frames.flatMap((frame) => protocol.receive(B.origin, frame, 0))
    assert.equal(protocol.records(C.origin).size, 0)
    assert.deepEqual(
      sent(effects, B.origin).map(({ pull }) => pull?.origin),
      [C.origin]
    )
    const answer = withCredential(c, C, credentialOf(C.origin))
    const applied = protocol.receive(B.origin, answer, 1)
    assert.deepEqual(persists(applied)[0]?.credential, credentialOf(C.origin))
    assert.equal(protocol.records(C.origin).size, 1)
    assert.equal(protocol.lag(C.origin), 0)
  })

  it('leaves an origin alone for a while whose credential was refused', () => {
    const c = start(C)
    c.publish([service('web', 1)], 0)
    const protocol = start(A)
    protocol.peerUp(B.origin, 0)
    const bad = protocol.receive(B.origin, withCredential(c, C, credentialOf(B.origin)), 0)
    assert.deepEqual(bad, [{ kind: 'refused', from: B.origin, reason: 'wrong credential' }])
    const heads = encodeFrame({ heads: { heads: [{ origin: C.origin, epoch: 1, seq: 1 }] } })
    assert.deepEqual(protocol.receive(B.origin, heads, 1000), [])
    assert.equal(sent(protocol.receive(B.origin, heads, 31_000), B.origin).length, 1)
  })

  it('asks another neighbour when a pull is not answered', () => {
    const protocol = start(A)
    protocol.peerUp(B.origin, 0)
    protocol.peerUp(C.origin, 0)
    const d = agent(4)
    const heads = encodeFrame({ heads: { heads: [{ origin: d.origin, epoch: 1, seq: 3 }] } })
    const first = protocol.receive(B.origin, heads, 0)
    assert.equal(sent(first, B.origin)[0]?.pull?.origin, d.origin)
    assert.deepEqual(sent(protocol.receive(C.origin, heads, 0), C.origin), [])
    assert.equal(protocol.lag(d.origin), 3)
    const later = [3100, 3400, 3700].flatMap((nowMs) => protocol.tick(nowMs))
    assert.deepEqual(
      later.flatMap((effect) => pullTargets(effect)),
      [C.origin]
    )
  })

  it('asks for the whole state when a change does not lead to the signed hash', () => {
    const b = start(B)
    const protocol = start(A)
    protocol.peerUp(B.origin, 0)
    admit(protocol, b, B)
    b.publish([service('web', 1), service('api', 1)], 0)
    const [head] = b.heads()
    assert.ok(head)
    const [frame] = deltaFrames({
      head,
      fromSeq: 0,
      operations: [...b.records(B.origin).values()].slice(1),
      partBytes: 9999
    })
    assert.ok(frame)
    const effects = protocol.receive(B.origin, frame, 1)
    assert.deepEqual(effects[0], { kind: 'refused', from: B.origin, reason: 'state hash mismatch' })
    assert.deepEqual(
      sent(effects, B.origin).map(({ pull }) => [pull?.epoch, pull?.fromSeq]),
      [[0, 0]]
    )
  })

  it('asks ever more rarely for a state that nobody can deliver', () => {
    const protocol = start(A, [B.origin])
    protocol.peerUp(B.origin, 0)
    const heads = encodeFrame({ heads: { heads: [{ origin: B.origin, epoch: 1, seq: 5 }] } })
    let pulls = 0
    for (let nowMs = 0; nowMs < 60_000; nowMs += 200) {
      let effects = nowMs % 1000 === 0 ? protocol.receive(B.origin, heads, nowMs) : protocol.tick(nowMs)
      while (effects.some((effect) => pullTargets(effect).length > 0)) {
        pulls++
        effects = protocol.receive(B.origin, undeliverable(B), nowMs)
      }
    }
    assert.ok(pulls >= 3 && pulls <= 12, `${pulls} pulls in a minute`)
  })

  it('passes a proof of equivocation on once, and the origin answers it with a new epoch', () => {
    const [one, two] = [start(C), start(C)]
    one.publish([service('web', 1)], 0)
    two.publish([service('web', 2)], 0)
    const [first, second] = [one.heads()[0], two.heads()[0]]
    assert.ok(first && second)
    const proof = encodeFrame({
      equivocation: {
        first: { head: first.bytes, signature: first.signature },
        second: { head: second.bytes, signature: second.signature }
      }
    })
    const protocol = start(A, [C.origin])
    protocol.peerUp(B.origin, 0)
    protocol.peerUp(C.origin, 0)
    assert.deepEqual(kinds(protocol.receive(B.origin, proof, 0)), ['refused', 'send'])
    assert.deepEqual(kinds(protocol.receive(B.origin, proof, 0)), [])
    assert.ok(protocol.isFrozen(C.origin))
    one.peerUp(A.origin, 0)
    assert.deepEqual(kinds(one.receive(A.origin, proof, 0)), ['ownRollback', 'persist', 'send', 'changed'])
    assert.equal(one.heads()[0]?.epoch, 2)
  })

  it('measures the round trip and when a neighbour was last heard', () => {
    const protocol = start(A)
    protocol.peerUp(B.origin, 0)
    const [ping] = sent(protocol.tick(1000), B.origin)
    assert.ok(ping?.ping)
    protocol.receive(B.origin, encodeFrame({ pong: { id: ping.ping.id } }), 1040)
    assert.equal(protocol.rtt(B.origin), 40)
    assert.equal(protocol.heardMs(B.origin), 1040)
    assert.equal(aborts(protocol, 1200, 11_000), 0)
    assert.equal(aborts(protocol, 11_200, 12_200), 1)
    assert.equal(aborts(protocol, 12_400, 14_000), 0)
  })

  it('blames no neighbour for its own stall, nor for a clock that jumps', () => {
    const protocol = start(A)
    protocol.peerUp(B.origin, 0)
    assert.equal(aborts(protocol, 0, 1000), 0)
    assert.equal(aborts(protocol, 31_000, 40_000), 0)
    assert.equal(aborts(protocol, -YEAR_MS, -YEAR_MS), 0)
    assert.equal(protocol.heardMs(B.origin), -YEAR_MS - 40_000)
    assert.equal(aborts(protocol, -YEAR_MS, -YEAR_MS + 2000), 1)
  })

  it('reports a record that is too large, and publishes the rest', () => {
    const protocol = start(A)
    const large = service('large', 1)
    const endpoints = Array.from({ length: 1000 }, () => ({
      addresses: [],
      ready: true,
      serving: true,
      terminating: false,
      hostname: 'h'.repeat(63),
      node: 'n'.repeat(63)
    }))
    const slice = {
      kind: 'endpointSlice' as const,
      namespace: 'shop',
      name: 'large-1',
      service: 'large',
      ports: [],
      endpoints
    }
    const effects = protocol.publish([large, { key: 'eps/shop/large-1', value: slice }], 0)
    assert.deepEqual(effects[0], {
      kind: 'leftOut',
      leftOut: {
        refused: [
          { key: 'eps/shop/large-1', reason: 'it has 137026 bytes, above the limit of 65536', reduced: false }
        ],
        namespaces: []
      }
    })
    assert.deepEqual([...protocol.records(A.origin).keys()], ['svc/shop/large'])
  })

  it('knows only as many origins as a mesh may have', () => {
    const protocol = start(A, [], { originsMax: 2 })
    protocol.peerUp(B.origin, 0)
    const heads = [agent(5), agent(6), agent(7)].map(({ origin }) => ({ origin, epoch: 1, seq: 1 }))
    const effects = protocol.receive(B.origin, encodeFrame({ heads: { heads } }), 0)
    assert.ok(effects.some((effect) => effect.kind === 'refused' && effect.reason === 'too many origins'))
  })

  it('answers any bytes with effects and never throws', () => {
    const b = start(B)
    const frames = [
      ...pushOf(b, [service('web', 1)]),
      withCredential(b, B, credentialOf(B.origin)),
      proofOf(A, { epoch: 1, seq: 5 }),
      encodeFrame({ heads: { heads: [{ origin: C.origin, epoch: 1, seq: 1 }], all: true } }),
      encodeFrame({ pull: { origin: A.origin, epoch: 1, fromSeq: 0 } }),
      encodeFrame({ ping: { id: 1 } })
    ]
    const protocol = start(A, [B.origin])
    protocol.publish([service('web', 1)], 0)
    protocol.peerUp(B.origin, 0)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => void protocol.receive(B.origin, bytes, 0))
    )
    fc.assert(
      fc.property(
        fc.constantFrom(...frames),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
        (frame, edits) => {
          const bytes = new Uint8Array(frame)
          for (const [at, byte] of edits) bytes[at % bytes.length] = byte
          protocol.receive(B.origin, bytes, 0)
          protocol.tick(0)
        }
      ),
      { numRuns: 2000 }
    )
  })
})

interface TestAgent {
  readonly seed: Uint8Array
  readonly origin: Origin
}

function agent(number: number): TestAgent {
  const seed = new Uint8Array(32).fill(number)
  return { seed, origin: originOf(crypto.publicKeyOf(seed)) }
}

function start(
  agent: TestAgent,
  admitted: readonly Origin[] = [],
  limits: Partial<ProtocolLimits> = {}
): Protocol {
  const admission = newAdmission(agent.origin)
  for (const origin of admitted) admission.admit(origin, credentialOf(origin))
  return createProtocol({ self: agent.origin, selfSeed: agent.seed, meshId, crypto, admission, limits })
}

function service(name: string, affinitySeconds: number) {
  const value: ServiceValue = {
    kind: 'service',
    namespace: 'shop',
    name,
    clusterIps: [],
    ports: [],
    headless: true,
    externalName: '',
    affinitySeconds,
    publishNotReady: false
  }
  return { key: `svc/shop/${name}`, value }
}

/** The frames of a push, as a neighbour would get them. */
function pushOf(protocol: Protocol, changes: Parameters<Protocol['publish']>[0]): readonly Uint8Array[] {
  const listener = agent(99).origin
  protocol.peerUp(listener, 0)
  const effects = protocol.publish(changes, 0)
  protocol.peerDown(listener)
  return effects.flatMap((effect) => (effect.kind === 'send' ? [effect.frame] : []))
}

/** A whole state with a credential, as the answer to a pull. */
function withCredential(protocol: Protocol, { origin }: TestAgent, credential: Uint8Array): Uint8Array {
  const head = protocol.heads().find((head) => head.origin === origin)
  assert.ok(head)
  const operations = [...protocol.records(origin).values()]
  const [frame] = deltaFrames({ head, fromSeq: 0, operations, credential, partBytes: 64 * 1024 })
  assert.ok(frame)
  return frame
}

function admit(protocol: Protocol, from: Protocol, agent: TestAgent): void {
  from.publish([service('first', 1)], 0)
  protocol.receive(agent.origin, withCredential(from, agent, credentialOf(agent.origin)), 0)
  assert.equal(protocol.records(agent.origin).size, 1)
}

/** A whole state that is not the one its head says. */
function undeliverable({ seed, origin }: TestAgent): Uint8Array {
  const state = { origin, epoch: 1, seq: 5, prevSeq: 0, stateHash: new Uint8Array(32).fill(5) }
  const [frame] = deltaFrames({
    head: signHead(crypto, { seed, meshId }, state),
    fromSeq: 0,
    operations: [],
    partBytes: 1000
  })
  assert.ok(frame)
  return frame
}

/** A head without operations, signed by the agent's seed. */
function proofOf({ seed, origin }: TestAgent, position: { epoch: number; seq: number }): Uint8Array {
  const head = signHead(
    crypto,
    { seed, meshId },
    { origin, ...position, prevSeq: 0, stateHash: new Uint8Array(32).fill(5) }
  )
  const [frame] = deltaFrames({ head, fromSeq: position.seq, operations: [], partBytes: 1000 })
  assert.ok(frame)
  return frame
}

const YEAR_MS = 365 * 86_400_000

/** Connections given up while ticking from one time to the other. */
function aborts(protocol: Protocol, fromMs: number, toMs: number): number {
  let count = 0
  for (let nowMs = fromMs; nowMs <= toMs; nowMs += 200)
    count += protocol.tick(nowMs).filter(({ kind }) => kind === 'abort').length
  return count
}

function stored({ origin, head, operations, credential }: Persist) {
  const records = operations.flatMap(({ key, seq, value }) => (value ? [{ key, seq, value }] : []))
  return { origin, head, credential, records }
}

function persists(effects: readonly Effect[]): readonly Persist[] {
  return effects.flatMap((effect) => (effect.kind === 'persist' ? [effect] : []))
}

function kinds(effects: readonly Effect[]): readonly string[] {
  return effects.map(({ kind }) => kind)
}

function sent(effects: readonly Effect[], to: Origin): readonly FrameMessage[] {
  return effects.flatMap((effect) => {
    const frame = effect.kind === 'send' && effect.to === to ? decodeFrame(effect.frame) : undefined
    return frame ? [frame] : []
  })
}

function pullTargets(effect: Effect): readonly Origin[] {
  return effect.kind === 'send' && decodeFrame(effect.frame)?.pull ? [effect.to] : []
}
