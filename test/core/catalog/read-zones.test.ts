// Zones and hints of EndpointSlices, and trafficDistribution of Services, from objects to records.
import assert from 'node:assert/strict'
import { catalog } from '../../../src/core/catalog/catalog.ts'
import { readObject } from '../../../src/core/catalog/folder-policy.ts'
import { decodeValue, encodeValue } from '../../../src/core/wire/value-codec.ts'
import { keyOf, type EndpointSliceValue } from '../../../src/core/model/values.ts'

const service = (spec: Readonly<Record<string, unknown>> = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'shop' },
  spec: { clusterIP: '10.101.0.1', ports: [{ port: 80 }], ...spec }
})

const slice = (endpoints: readonly Readonly<Record<string, unknown>>[]) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'web-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
  addressType: 'IPv4',
  ports: [{ port: 8080 }],
  endpoints: endpoints.map((each, index) => ({
    addresses: [`10.1.${index >> 8}.${index & 255}`],
    ...each
  }))
})

function read(...objects: readonly unknown[]) {
  return catalog(objects.flatMap((object) => readObject(object, { file: 'web.yaml' })))
}

const zonesOf = (slices: readonly EndpointSliceValue[]) =>
  slices.flatMap(({ endpoints }) => endpoints.map(({ zone, forZones }) => [zone, forZones]))

describe('zones of endpoints', () => {
  it('are read with their hints, and survive the record', () => {
    const hints = { forZones: [{ name: 'eu-1a' }, { name: 'eu-1b' }, { name: 'eu-1a' }] }
    const { snapshot, problems } = read(service(), slice([{ zone: 'eu-1a', hints }, {}, { zone: '' }]))
    assert.deepEqual(problems, [])
    const wanted = [
      ['eu-1a', ['eu-1a', 'eu-1b']],
      [undefined, undefined],
      [undefined, undefined]
    ]
    assert.deepEqual(zonesOf(snapshot.endpointSlices), wanted)
    const [value] = snapshot.endpointSlices
    assert.ok(value)
    const decoded = decodeValue(keyOf(value), encodeValue(value))
    assert.deepEqual(decoded, { kind: 'value', value: structuredClone(value) })
  })

  for (const [what, odd] of [
    ['a blank', { zone: 'eu 1a' }],
    ['64 characters', { zone: 'z'.repeat(64) }],
    ['a number', { zone: 5 }],
    ['a hint with a line feed', { hints: { forZones: [{ name: 'a\nb' }] } }]
  ] as const)
    it(`do not count with a warning where a record cannot carry them: ${what}`, () => {
      const { snapshot, problems } = read(service(), slice([odd, { zone: 'eu-1a' }]))
      assert.deepEqual(zonesOf(snapshot.endpointSlices), [
        [undefined, undefined],
        ['eu-1a', undefined]
      ])
      assert.equal(problems.length, 1)
      const [problem] = problems
      assert.equal(problem?.level, 'warning')
      assert.match(
        problem?.where ?? '',
        /^EndpointSlice shop\/web-1: endpoints\[0\]\.(zone|hints\.forZones)$/
      )
      assert.match(problem?.message ?? '', /so it counts as not set/)
    })

  it('are the first 64 names of a slice, and the others have a warning', () => {
    const all = Array.from({ length: 70 }, (_, index) => ({ zone: `z${index}` }))
    const { snapshot, problems } = read(service(), slice(all))
    const zones = snapshot.endpointSlices.flatMap(({ endpoints }) => endpoints.map(({ zone }) => zone))
    assert.equal(zones.length, 70)
    assert.deepEqual(
      zones.map((zone) => zone !== undefined),
      all.map((_, index) => index < 64)
    )
    assert.match(problems[0]?.message ?? '', /one zone more than 64/)
  })

  it('have room in every part of a slice that is split', () => {
    const all = Array.from({ length: 1000 }, (_, index) => ({
      zone: `${index % 64}`.padEnd(63, 'z'),
      nodeName: 'n'.repeat(60),
      hints: {
        forZones: Array.from({ length: 8 }, (_, of) => ({ name: `${(index + of) % 64}`.padEnd(63, 'z') }))
      }
    }))
    const { snapshot } = read(service(), slice(all))
    assert.ok(snapshot.endpointSlices.length > 1)
    for (const value of snapshot.endpointSlices)
      assert.equal(decodeValue(keyOf(value), encodeValue(value)).kind, 'value')
    assert.equal(zonesOf(snapshot.endpointSlices).length, 1000)
  })
})

describe('trafficDistribution of a Service', () => {
  it('is in its record, also without a ServiceExport; a malformed one counts as not set', () => {
    const of = (trafficDistribution: unknown) =>
      read(service({ trafficDistribution })).snapshot.services[0]?.trafficDistribution
    assert.equal(of('PreferSameZone'), 'PreferSameZone')
    assert.equal(of(undefined), undefined)
    assert.equal(of('Prefer Same'), undefined)
    assert.equal(of(7), undefined)
  })
})
