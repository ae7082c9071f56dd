import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { catalog, toValue } from '../../../src/core/catalog/catalog.ts'
import { readObject } from '../../../src/core/catalog/folder-policy.ts'
import { decodeValue, encodeValue } from '../../../src/core/wire/value-codec.ts'
import { RECORD_BYTES_MAX } from '../../../src/core/wire/limits.ts'
import { keyOf, type EndpointSliceValue, type Ip } from '../../../src/core/model/values.ts'
import { PART_SUFFIX, splitSlice } from '../../../src/core/catalog/split-slice.ts'

function slice(ports: number, endpoints: number, names: number, name = 'web-1'): EndpointSliceValue {
  const pad = (text: string, length: number) => text.padEnd(length, 'x')
  return {
    kind: 'endpointSlice',
    namespace: 'shop',
    name,
    service: 'web',
    ports: Array.from({ length: ports }, (_, n) => ({
      name: pad(`p${n}`, Math.min(63, names)),
      protocol: n % 2 === 0 ? 'TCP' : 'SCTP',
      port: 1 + n
    })),
    endpoints: Array.from({ length: endpoints }, (_, n) => ({
      addresses: [`10.1.${n >> 8}.${n & 255}` as Ip],
      ready: true,
      serving: true,
      terminating: n % 3 === 0,
      hostname: pad(`h${n}`, Math.min(63, names)),
      node: pad(`n${n}`, names)
    }))
  }
}

/** Every port with every endpoint. */
function pairs(slices: readonly EndpointSliceValue[]): readonly string[] {
  return slices
    .flatMap(({ ports, endpoints }) =>
      ports.flatMap((port) => endpoints.map((each) => JSON.stringify([port, each])))
    )
    .sort()
}

describe('an EndpointSlice that is too large for a record', () => {
  it('is published in parts that say the same together, each of which the others take', () => {
    const [count, name] = [fc.integer({ min: 0, max: 1000 }), fc.integer({ min: 1, max: 253 })]
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1500 }), count, name, (ports, endpoints, names) => {
        const whole = slice(ports, endpoints, names)
        const parts = splitSlice(whole)
        assert.equal(new Set(parts.map(keyOf)).size, parts.length)
        assert.equal(parts[0]?.name, 'web-1')
        for (const part of parts) {
          const bytes = encodeValue(part)
          assert.ok(bytes.length <= RECORD_BYTES_MAX, `${bytes.length} bytes`)
          assert.deepEqual(decodeValue(keyOf(part), bytes), { kind: 'value', value: part })
        }
        const product = parts.reduce((sum, part) => sum + part.ports.length * part.endpoints.length, 0)
        assert.equal(product, ports * endpoints)
        if (ports * endpoints <= 20_000) assert.deepEqual(pairs(parts), pairs([whole]))
      }),
      { numRuns: 25 }
    )
  })

  for (const [ports, endpoints, names, records] of [
    [20_000, 0, 5, 11],
    [100, 1000, 20, 2],
    [405, 1000, 253, 11],
    [1, 1000, 10, 1]
  ] as const) {
    it(`of ${ports} ports and ${endpoints} endpoints with names of ${names} is ${records} records`, () => {
      const parts = splitSlice(slice(ports, endpoints, names))
      assert.equal(parts.length, records)
    })
  }

  it('keeps its parts within 253 characters of name, and apart', () => {
    for (const length of [1, 69, 240, 253]) {
      const parts = splitSlice(slice(10, 1000, 253, 'a'.repeat(length)))
      assert.equal(parts[0]?.name.length, length)
      for (const part of parts) assert.equal(decodeValue(keyOf(part), encodeValue(part)).kind, 'value')
      assert.ok(parts.slice(1).every(({ name }) => name.endsWith(PART_SUFFIX)))
    }
  })

  it('has names that no other object may have', () => {
    const reading = toValue({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `web-1.1${PART_SUFFIX}`, labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: 'IPv4'
    })
    assert.match(reading.kind === 'problem' ? reading.message : '', /reserved/)
  })
})

describe('what the Kubernetes API takes', () => {
  const service = (ports: readonly object[], name = 'web') => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'shop' },
    spec: { clusterIP: '10.101.0.10', ports }
  })
  const sliceOf = (more: object, name = 'web-1') => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ name: 'p0', port: 8080 }],
    endpoints: [{ addresses: ['10.1.0.11'] }],
    ...more
  })
  const ports = (count: number, length = 4) =>
    Array.from({ length: count }, (_, n) => ({ name: `p${n}`.padEnd(length, 'x'), port: n + 1 }))
  const read = (...objects: unknown[]) =>
    catalog(objects.flatMap((object) => readObject(object, { file: 'a.yaml' })))

  for (const count of [101, 150, 405, 2000]) {
    it(`is taken: a Service and a slice of ${count} ports`, () => {
      const { snapshot, problems } = read(service(ports(count)), sliceOf({ ports: ports(count) }))
      assert.deepEqual(problems, [])
      assert.equal(snapshot.services[0]?.ports.length, count)
      assert.equal(
        snapshot.endpointSlices.reduce((sum, each) => sum + each.ports.length, 0),
        count
      )
    })
  }

  it('is taken: 1,000 endpoints with names of 253 and host names of 63 characters', () => {
    const endpoints = Array.from({ length: 1000 }, (_, n) => ({
      addresses: [`10.1.${n >> 8}.${n & 255}`],
      nodeName: `n${n}`.padEnd(253, 'x'),
      hostname: `h${n}`.padEnd(63, 'x'),
      zone: 'z'.repeat(63),
      hints: { forZones: [{ name: 'z' }] }
    }))
    const { snapshot, problems } = read(service(ports(1, 2)), sliceOf({ endpoints }))
    assert.deepEqual(problems, [])
    assert.equal(
      snapshot.endpointSlices.reduce((sum, each) => sum + each.endpoints.length, 0),
      1000
    )
  })

  it('is taken: a slice whose name is longer than a DNS label, and an application protocol of 317', () => {
    const name = `${'w'.repeat(63)}-abcde`
    const appProtocol = `${'a'.repeat(253)}/${'b'.repeat(63)}`
    const { snapshot, problems } = read(service([{ name: 'p0', port: 1, appProtocol }]), sliceOf({}, name))
    assert.deepEqual(problems, [])
    for (const value of [...snapshot.services, ...snapshot.endpointSlices])
      assert.equal(decodeValue(keyOf(value), encodeValue(value)).kind, 'value')
  })

  it('is taken: an Endpoints of 2,500 addresses', () => {
    const addresses = Array.from({ length: 2500 }, (_, n) => ({ ip: `10.1.${n >> 8}.${n & 255}` }))
    const { snapshot, problems } = read(service(ports(1, 2)), {
      apiVersion: 'v1',
      kind: 'Endpoints',
      metadata: { name: 'web', namespace: 'shop' },
      subsets: [{ addresses, ports: [{ name: 'p0', port: 8080 }] }]
    })
    assert.deepEqual(problems, [])
    assert.deepEqual(
      snapshot.endpointSlices.map((each) => each.endpoints.length),
      [1000, 1000, 500]
    )
  })

  it('and is too large for a record as a Service keeps the first ports, with a warning', () => {
    const { snapshot, problems } = read(service(ports(3000, 63)), sliceOf({ ports: ports(3000, 63) }))
    const [value] = snapshot.services
    assert.ok(value && value.ports.length > 700 && value.ports.length < 3000)
    assert.ok(encodeValue(value).length <= RECORD_BYTES_MAX)
    assert.match(
      problems[0]?.message ?? '',
      /has 3000 ports; the first \d+ fit into one record, the other \d+ are not published/
    )
    assert.equal(problems[0]?.level, 'warning')
  })
})
