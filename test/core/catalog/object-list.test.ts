import assert from 'node:assert/strict'
import { expand } from '../../../src/core/catalog/object-list.ts'

describe('an object taken apart', () => {
  it('is itself when it holds no others', () => {
    for (const object of [{ kind: 'Service' }, null, 'text', 7]) assert.deepEqual(expand(object), [object])
  })

  it('is the items of a List, and of the Lists in it', () => {
    const [first, second] = [{ kind: 'Service' }, { kind: 'EndpointSlice' }]
    const list = { kind: 'List', items: [first, { kind: 'List', items: [second] }] }
    assert.deepEqual(expand(list), [first, second])
  })

  it('is the items of a typed list, each with the kind and the version of the list', () => {
    const list = { kind: 'ServiceList', apiVersion: 'v1', items: [{ metadata: { name: 'web' } }] }
    assert.deepEqual(expand(list), [{ kind: 'Service', apiVersion: 'v1', metadata: { name: 'web' } }])
  })

  it('stays a List below three others', () => {
    let list: unknown = { kind: 'Service' }
    for (let depth = 0; depth < 4; depth++) list = { kind: 'List', items: [list] }
    assert.deepEqual(expand(list), [{ kind: 'List', items: [{ kind: 'Service' }] }])
  })

  it('is one EndpointSlice for each subset and family of an Endpoints', () => {
    const slices = expand(endpoints([{ ip: '10.1.0.1' }, { ip: 'fd00::1' }]))
    assert.deepEqual(slices.map(nameOf), ['web-endpoints-0-ipv4', 'web-endpoints-0-ipv6'])
  })

  it('is slices of 1,000 endpoints each for a large Endpoints', () => {
    const addresses = Array.from({ length: 1001 }, (_, at) => ({ ip: `10.1.${at >> 8}.${at & 255}` }))
    assert.deepEqual(expand(endpoints(addresses)).map(nameOf), [
      'web-endpoints-0-ipv4',
      'web-endpoints-0-ipv4-1'
    ])
  })

  it('is a malformed Endpoints as it stands', () => {
    const malformed = { ...endpoints([]), subsets: 'none' }
    assert.deepEqual(expand(malformed), [malformed])
  })
})

function endpoints(addresses: readonly { readonly ip: string }[]) {
  return { kind: 'Endpoints', apiVersion: 'v1', metadata: { name: 'web' }, subsets: [{ addresses }] }
}

function nameOf(slice: unknown): unknown {
  return (slice as { metadata: { name: unknown } }).metadata.name
}
