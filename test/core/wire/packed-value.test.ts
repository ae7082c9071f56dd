import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { encodeValue } from '../../../src/core/wire/value-codec.ts'
import type { EndpointSliceValue, Ip } from '../../../src/core/model/values.ts'
import { packValue, unpackValue } from '../../../src/core/wire/packed-value.ts'

describe('packed values', () => {
  it('take 16 bytes an endpoint or less, with node names as clouds give them', () => {
    const value = encodeValue(
      slice(100, (index) => `ip-10-1-${index % 4}-${index}.eu-west-1.compute.internal`)
    )
    const packed = packValue(value)
    assert.ok(packed && packed.length <= 16 * 100, `${packed?.length} of ${value.length} bytes`)
    assert.deepEqual(unpackValue(packed, value.length), value)
  })

  it('come back as the very same bytes', () => {
    const endpoint = fc.record({
      addresses: fc.array(
        fc.nat(255).map((byte) => `10.0.0.${byte}` as Ip),
        { minLength: 1, maxLength: 2 }
      ),
      ready: fc.boolean(),
      serving: fc.boolean(),
      terminating: fc.boolean(),
      hostname: fc.constantFrom('', 'web-0'),
      node: fc.constantFrom('', 'a', 'node-1', 'n'.repeat(200))
    })
    fc.assert(
      fc.property(fc.array(endpoint, { maxLength: 60 }), (endpoints) => {
        const value = encodeValue({ ...slice(0, () => ''), endpoints })
        const packed = packValue(value)
        if (packed) assert.deepEqual(unpackValue(packed, value.length), value)
      })
    )
  })

  it('come back, or are left alone, whatever bytes they are', () => {
    const value = encodeValue(slice(40, () => 'node-1'))
    const edits = fc.array(fc.tuple(fc.nat(value.length - 1), fc.nat(255)), { maxLength: 6 })
    let packedOnes = 0
    fc.assert(
      fc.property(edits, fc.uint8Array({ maxLength: 20 }), (edits, tail) => {
        const bytes = new Uint8Array([...value, ...tail])
        for (const [at, byte] of edits) bytes[at] = byte
        const packed = packValue(bytes)
        if (packed) packedOnes++
        if (packed) assert.deepEqual(unpackValue(packed, bytes.length), bytes)
      }),
      { numRuns: 2000 }
    )
    assert.ok(packedOnes > 0)
  })
})

function slice(endpoints: number, node: (index: number) => string): EndpointSliceValue {
  return {
    kind: 'endpointSlice',
    namespace: 'shop',
    name: 'web-x7k2p',
    service: 'web',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: Array.from({ length: endpoints }, (_, index) => ({
      addresses: [`10.1.${index % 4}.${index}` as Ip],
      ready: true,
      serving: true,
      terminating: false,
      hostname: '',
      node: node(index)
    }))
  }
}
