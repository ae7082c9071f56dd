import assert from 'node:assert/strict'
import type { Origin } from '../../../src/core/model/values.ts'
import { Gate } from '../../../src/core/replication/gate.ts'
import { CHAIN_BYTES_MAX } from '../../../src/core/wire/limits.ts'

const origin = 'a' as Origin
const good = Uint8Array.of(1)
const bad = Uint8Array.of(2)

describe('the gate', () => {
  it('asks for the chain of an unknown origin once, at the first part', () => {
    const gate = newGate()
    assert.deepEqual(gate.enter(origin, { chain: new Uint8Array(), part: 0 }, 0), { kind: 'chain missing' })
    assert.deepEqual(gate.enter(origin, { chain: new Uint8Array(), part: 1 }, 0), { kind: 'ignored' })
  })

  it('admits an origin by its chain, and keeps it when a later chain is refused', () => {
    const gate = newGate()
    assert.deepEqual(gate.enter(origin, { chain: good, part: 0 }, 0), { kind: 'admitted' })
    assert.deepEqual(gate.enter(origin, { chain: bad, part: 0 }, 0), {
      kind: 'admitted',
      refusal: 'bad chain'
    })
    assert.equal(gate.isDenied(origin, 0), false)
  })

  it('denies an origin for 30 s after a refused chain, or until a good one comes', () => {
    const gate = newGate()
    assert.deepEqual(gate.enter(origin, { chain: bad, part: 0 }, 0), { kind: 'denied', refusal: 'bad chain' })
    assert.equal(gate.isDenied(origin, 29_999), true)
    assert.equal(gate.isDenied(origin, 30_000), false)
    gate.enter(origin, { chain: good, part: 0 }, 10)
    assert.equal(gate.isDenied(origin, 20), false)
  })

  it('refuses a chain that is too long without a look at it', () => {
    const chain = new Uint8Array(CHAIN_BYTES_MAX + 1)
    const entry = newGate().enter(origin, { chain, part: 0 }, 0)
    assert.deepEqual(entry, { kind: 'ignored', refusal: 'chain too long' })
  })
})

function newGate(): Gate {
  const chains = new Map<Origin, Uint8Array>()
  const admission = {
    isAdmitted: (name: Origin) => chains.has(name),
    clusterOf: () => undefined,
    chainOf: (name: Origin) => chains.get(name),
    publicKeyOf: () => undefined,
    admit: (name: Origin, chain: Uint8Array) => {
      if (chain[0] !== good[0]) return { kind: 'refused' as const, reason: 'bad chain' }
      chains.set(name, chain)
      return { kind: 'admitted' as const }
    }
  }
  return new Gate({ admission, originsMax: 10 })
}
