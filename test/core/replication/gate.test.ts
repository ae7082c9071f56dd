import assert from 'node:assert/strict'
import type { Origin } from '../../../src/core/model/values.ts'
import { Gate } from '../../../src/core/replication/gate.ts'
import { CREDENTIAL_BYTES_MAX } from '../../../src/core/wire/limits.ts'

const origin = 'a' as Origin
const good = Uint8Array.of(1)
const bad = Uint8Array.of(2)
/** Good, but its cluster is not known yet. */
const early = Uint8Array.of(3)

describe('the gate', () => {
  it('asks for the credential of an unknown origin once, at the first part', () => {
    const gate = newGate()
    assert.deepEqual(gate.enter(origin, { credential: new Uint8Array(), part: 0 }, 0), {
      kind: 'credential missing'
    })
    assert.deepEqual(gate.enter(origin, { credential: new Uint8Array(), part: 1 }, 0), { kind: 'ignored' })
  })

  it('admits an origin by its credential, and keeps it when a later credential is refused', () => {
    const gate = newGate()
    assert.deepEqual(gate.enter(origin, { credential: good, part: 0 }, 0), { kind: 'admitted' })
    assert.deepEqual(gate.enter(origin, { credential: bad, part: 0 }, 0), {
      kind: 'admitted',
      refusal: 'bad credential'
    })
    assert.equal(gate.isDenied(origin, 0), false)
  })

  it('says when an origin has another credential than before', () => {
    const gate = newGate()
    gate.enter(origin, { credential: good, part: 0 }, 0)
    const renewed = Uint8Array.of(good[0] ?? 0, 2)
    assert.deepEqual(gate.enter(origin, { credential: renewed, part: 0 }, 0), {
      kind: 'admitted',
      isNew: true
    })
    assert.deepEqual(gate.enter(origin, { credential: renewed, part: 0 }, 0), { kind: 'admitted' })
  })

  it('denies an origin for 30 s after a refused credential, or until a good one comes', () => {
    const gate = newGate()
    assert.deepEqual(gate.enter(origin, { credential: bad, part: 0 }, 0), {
      kind: 'denied',
      refusal: 'bad credential'
    })
    assert.equal(gate.isDenied(origin, 29_999), true)
    assert.equal(gate.isDenied(origin, 30_000), false)
    gate.enter(origin, { credential: good, part: 0 }, 10)
    assert.equal(gate.isDenied(origin, 20), false)
  })

  it('asks for a credential that came before its cluster again after 2 s', () => {
    const gate = newGate()
    assert.equal(gate.enter(origin, { credential: early, part: 0 }, 0).kind, 'denied')
    assert.equal(gate.isDenied(origin, 1999), true)
    assert.equal(gate.isDenied(origin, 2000), false)
  })

  it('refuses a credential that is too long without a look at it', () => {
    const credential = new Uint8Array(CREDENTIAL_BYTES_MAX + 1)
    const entry = newGate().enter(origin, { credential, part: 0 }, 0)
    assert.deepEqual(entry, { kind: 'ignored', refusal: 'credential too long' })
  })
})

function newGate(): Gate {
  const credentials = new Map<Origin, Uint8Array>()
  const admission = {
    isAdmitted: (name: Origin) => credentials.has(name),
    clusterOf: () => undefined,
    credentialOf: (name: Origin) => credentials.get(name),
    publicKeyOf: () => undefined,
    admit: (name: Origin, credential: Uint8Array) => {
      if (credential[0] === early[0])
        return { kind: 'refused' as const, reason: 'unknown cluster', isEarly: true as const }
      if (credential[0] !== good[0]) return { kind: 'refused' as const, reason: 'bad credential' }
      credentials.set(name, credential)
      return { kind: 'admitted' as const }
    }
  }
  return new Gate({ admission, originsMax: 10 })
}
