import assert from 'node:assert/strict'
import { decodeValue, encodeValue } from '../../src/core/wire/value-codec.ts'
import { encodeFrame } from '../../src/core/wire/messages.ts'
import { FAULTS, repeatCommand, serviceChange, storm, stormOfSeed } from './storm.ts'
import { isOfNextKind, received, sent, writingAs } from './versions.ts'

const SEEDS = Number(process.env['SIM_SEEDS'] ?? 30)

describe('agents of this version and of the one before', function () {
  it('converge, whichever of them relays', () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const options = stormOfSeed(seed, {
        faults: new Set(FAULTS.filter((fault) => fault !== 'twin' && fault !== 'schema')),
        versionOf: (agent) => (agent % 2 === 0 ? 'this' : 'previous')
      })
      try {
        storm(options)
      } catch (cause) {
        throw new Error(`seed ${seed}, every second agent of the version before; ${repeatCommand(options)}`, {
          cause
        })
      }
    }
  })

  it('differ in fields that the one before drops', () => {
    const ping = encodeFrame({ ping: { id: 3, digest: 77 } })
    assert.deepEqual(received('previous', ping), encodeFrame({ ping: { id: 3 } }))
    assert.equal(received('previous', encodeFrame({ prune: { origins: ['x'] } })), undefined)
  })
})

describe('a value of a version to come', () => {
  const [{ value: known }, { value: unknown }] = [serviceChange('web', 7), serviceChange('x-web', 7)]

  it('is read without what this version does not know', () => {
    const bytes = writingAs('next', () => encodeValue(known))
    assert.notDeepEqual(bytes, encodeValue(known))
    assert.deepEqual(decodeValue('svc/shop/web', bytes), { kind: 'value', value: known })
  })

  it('is refused, and nothing else, where its kind is not known', () => {
    const bytes = writingAs('next', () => encodeValue(unknown))
    assert.ok(isOfNextKind(bytes))
    assert.deepEqual(decodeValue('svc/shop/x-web', bytes), {
      kind: 'invalid',
      reason: 'this version does not know the kind of the value'
    })
  })

  it('comes in frames with more in them, beside frames of which nothing is known', () => {
    const ping = encodeFrame({ ping: { id: 3, digest: 77 } })
    const [wider, probe] = sent('next', ping)
    assert.ok(wider && probe && wider.length > ping.length)
    assert.deepEqual(received('previous', wider), encodeFrame({ ping: { id: 3 } }))
    assert.equal(received('previous', probe), undefined)
  })
})
