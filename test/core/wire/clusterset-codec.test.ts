// The export of a service on the wire: what is written is read back, and what a hostile peer writes is refused.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { ATTRIBUTES_MAX } from '../../../src/core/model/attributes.ts'
import { keyOf, type ClustersetExport, type Ip, type ServiceValue } from '../../../src/core/model/values.ts'
import { RECORD_BYTES_MAX } from '../../../src/core/wire/limits.ts'
import { decodeValue, encodeValue } from '../../../src/core/wire/value-codec.ts'

const EXPORT: ClustersetExport = {
  exportedAt: 1_795_000_000,
  ipFamilies: [4, 6],
  internalTrafficPolicy: 'Local',
  trafficDistribution: 'PreferClose',
  labels: [{ key: 'example.com/team', value: 'shop' }],
  annotations: [{ key: 'note', value: 'any text: "quoted"' }]
}

const service = (clusterset: ClustersetExport): ServiceValue => ({
  kind: 'service',
  namespace: 'shop',
  name: 'web',
  clusterIps: ['10.2.0.1' as Ip],
  ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
  headless: false,
  externalName: '',
  affinitySeconds: 0,
  publishNotReady: false,
  clusterset
})

function read(clusterset: ClustersetExport): ReturnType<typeof decodeValue> {
  return decodeValue('svc/shop/web', encodeValue(service(clusterset)))
}

describe('the export of a service on the wire', () => {
  it('is read back as it was written, with none of its fields and with all of them', () => {
    const anExport = fc.record(
      {
        exportedAt: fc.nat(),
        ipFamilies: fc.constantFrom([], [4 as const], [6 as const, 4 as const]),
        internalTrafficPolicy: fc.constantFrom('' as const, 'Cluster' as const, 'Local' as const),
        trafficDistribution: fc.constantFrom('', 'PreferClose'),
        labels: fc.constantFrom([], EXPORT.labels),
        annotations: fc.constantFrom([], EXPORT.annotations)
      },
      { noNullPrototype: true }
    )
    fc.assert(
      fc.property(anExport, (each) => {
        assert.deepEqual(read(each), { kind: 'value', value: service(each) })
      })
    )
    const { clusterset: _, ...plain } = service(EXPORT)
    assert.deepEqual(decodeValue(keyOf(plain), encodeValue(plain)), { kind: 'value', value: plain })
  })

  it('fits into a record with the longest labels and annotations', () => {
    const key = (at: number) =>
      `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(57)}.io/${String(at).padStart(63, '0')}`
    const all = Array.from({ length: ATTRIBUTES_MAX }, (_, at) => key(at))
    const largest: ClustersetExport = {
      ...EXPORT,
      labels: all.map((each) => ({ key: each, value: 'v'.repeat(63) })),
      annotations: all.map((each) => ({ key: each, value: '~'.repeat(1024) }))
    }
    assert.ok(encodeValue(service(largest)).length < RECORD_BYTES_MAX / 2)
    assert.equal(read(largest).kind, 'value')
  })

  for (const [what, bad] of Object.entries({
    'an unknown family': { ipFamilies: [5 as 4] },
    'a family twice': { ipFamilies: [4 as const, 4 as const] },
    'an unknown policy': { internalTrafficPolicy: 'Any' as 'Local' },
    'a distribution with a space': { trafficDistribution: 'Prefer Close' },
    'a label with a line break': { labels: [{ key: 'a', value: 'x\ny' }] },
    'a key with a path': { labels: [{ key: 'a/b/c', value: '' }] },
    'keys out of order': {
      labels: [
        { key: 'b', value: '' },
        { key: 'a', value: '' }
      ]
    },
    'a key twice': {
      annotations: [
        { key: 'a', value: '' },
        { key: 'a', value: '' }
      ]
    },
    'an annotation with a control character': { annotations: [{ key: 'a', value: '\u001b[2J' }] },
    'an annotation that is too long': { annotations: [{ key: 'a', value: 'x'.repeat(1025) }] },
    'too many labels': {
      labels: Array.from({ length: ATTRIBUTES_MAX + 1 }, (_, at) => ({
        key: `k${String(at).padStart(2, '0')}`,
        value: ''
      }))
    }
  } satisfies Record<string, Partial<ClustersetExport>>))
    it(`is refused with ${what}`, () => {
      assert.deepEqual(read({ ...EXPORT, ...bad }), { kind: 'invalid', reason: 'clusterset is malformed' })
    })
})
