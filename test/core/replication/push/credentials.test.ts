// A new credential reaches all members although its origin publishes nothing.
import assert from 'node:assert/strict'
import { createProtocol, type Effect, type Protocol } from '../../../../src/core/replication/protocol.ts'
import type { Admission } from '../../../../src/core/trust/admission.ts'
import type { Origin } from '../../../../src/core/model/values.ts'
import { originOf, publicKeyOf } from '../../../../src/core/model/identity.ts'
import { decodeFrame } from '../../../../src/core/wire/messages.ts'
import { createCrypto } from '../../../../src/io/crypto/crypto.ts'

const crypto = createCrypto()
const meshId = new Uint8Array(32).fill(7)
const [A, B, C] = [1, 2, 3].map((number) => {
  const seed = new Uint8Array(32).fill(number)
  return { seed, origin: originOf(crypto.publicKeyOf(seed)) }
}) as [TestAgent, TestAgent, TestAgent]

interface TestAgent {
  readonly seed: Uint8Array
  readonly origin: Origin
}

/** A credential is one byte, its generation. The highest one of an origin is kept. */
class Generations implements Admission {
  readonly #held = new Map<Origin, Uint8Array>()
  readonly publicKeyOf = publicKeyOf
  readonly clusterOf = () => undefined
  readonly credentialOf = (origin: Origin) => this.#held.get(origin)
  readonly isAdmitted = (origin: Origin) => this.#held.has(origin)

  admit(origin: Origin, credential: Uint8Array) {
    const held = this.#held.get(origin)
    if (held === undefined || (credential[0] ?? 0) > (held[0] ?? 0)) this.#held.set(origin, credential)
    return { kind: 'admitted' as const }
  }
}

describe('a new credential', () => {
  let [admission, relays]: [Generations, Generations] = [new Generations(), new Generations()]
  let [a, b]: [Protocol, Protocol] = [start(A, admission), start(B, relays)]

  beforeEach(() => {
    ;[admission, relays] = [new Generations(), new Generations()]
    ;[a, b] = [start(A, admission), start(B, relays)]
    for (const held of [admission, relays])
      for (const { origin } of [A, B, C]) held.admit(origin, Uint8Array.of(1))
    a.peerUp(B.origin, 0)
    b.peerUp(A.origin, 0)
    b.peerUp(C.origin, 0)
    const value = { kind: 'service', namespace: 'shop', name: 'web', ports: [], clusterIps: [] }
    deliver(a.publish([{ key: 'svc/shop/web', value: value as never }], 0), 0)
    assert.equal(b.records(A.origin).size, 1)
  })

  /** Gives B what A sends, and returns what B sends for it. */
  const deliver = (effects: readonly Effect[], nowMs: number): readonly Effect[] =>
    framesTo(effects, B.origin).flatMap((frame) => b.receive(A.origin, frame, nowMs))
  const renew = (generation: number, nowMs: number): readonly Effect[] => {
    admission.admit(A.origin, Uint8Array.of(generation))
    return deliver(a.showCredential(nowMs), nowMs)
  }

  it('is told to each neighbour, which passes it on to its others, once', () => {
    const passed = renew(2, 0)
    assert.deepEqual(relays.credentialOf(A.origin), Uint8Array.of(2))
    assert.deepEqual(credentials(passed, C.origin), [2])
    assert.deepEqual(framesTo(passed, A.origin), [])
    assert.deepEqual(credentials(deliver(a.showCredential(2000), 2000), C.origin), [])
  })

  it('is stored, so that the records are admitted after a restart', () => {
    const [persist, ...others] = renew(2, 0).filter(({ kind }) => kind !== 'send')
    assert.ok(persist?.kind === 'persist')
    assert.deepEqual([persist.origin, persist.operations, persist.replace], [A.origin, [], false])
    assert.deepEqual(persist.credential, Uint8Array.of(2))
    assert.deepEqual(others, [])
    assert.ok(deliver(a.showCredential(1), 1).every(({ kind }) => kind === 'send'))
  })

  it('that came with a handshake is stored, too', () => {
    relays.admit(A.origin, Uint8Array.of(2))
    const stored = b.peerUp(A.origin, 1).filter(({ kind }) => kind === 'persist')
    assert.deepEqual(
      stored.map((effect) => effect.kind === 'persist' && effect.credential),
      [Uint8Array.of(2)]
    )
  })

  it('changes no record, is no offence, and asks for nothing', () => {
    assert.ok(renew(2, 0).every(({ kind }) => kind === 'send' || kind === 'persist'))
    assert.equal(b.records(A.origin).size, 1)
    assert.equal(b.load().pulls, 0)
  })

  it('is passed on four times in ten seconds at most', () => {
    for (const generation of [2, 3, 4, 5])
      assert.deepEqual(credentials(renew(generation, generation), C.origin), [generation])
    assert.deepEqual(credentials(renew(6, 9000), C.origin), [])
    assert.deepEqual(relays.credentialOf(A.origin), Uint8Array.of(6), 'it counts here nevertheless')
    assert.deepEqual(credentials(renew(7, 10_100), C.origin), [7])
  })

  it('of an agent that has published nothing is no news', () => {
    const quiet = start(A, admission)
    quiet.peerUp(B.origin, 0)
    assert.deepEqual(quiet.showCredential(0), [])
  })
})

function start({ origin, seed }: TestAgent, admission: Admission): Protocol {
  return createProtocol({ self: origin, selfSeed: seed, meshId, crypto, admission })
}

function framesTo(effects: readonly Effect[], to: Origin): readonly Uint8Array[] {
  return effects.flatMap((effect) => (effect.kind === 'send' && effect.to === to ? [effect.frame] : []))
}

/** The generations in the deltas without operations that are sent to this agent. */
function credentials(effects: readonly Effect[], to: Origin): readonly number[] {
  return framesTo(effects, to).flatMap((frame) => {
    const delta = decodeFrame(frame)?.delta
    return delta && delta.operations.length === 0 ? [...delta.credential] : []
  })
}
