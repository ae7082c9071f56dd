// ServiceExports as objects: what they carry, what they do not, and which Service they export.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { catalog, toValue, type Item } from '../../../src/core/catalog/catalog.ts'
import { EXPORT_ALL, exportFacts, type ExportPolicy } from '../../../src/core/catalog/export-policy.ts'
import { LiveCatalog } from '../../../src/core/catalog/live-catalog.ts'

const MARKED: ExportPolicy = { ...EXPORT_ALL, unmarked: 'keep' }

const item = (object: unknown): Item => ({ file: 'kubernetes', reading: toValue(object) })

const service = (spec: object = {}, annotations: object = {}, name = 'web') => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { namespace: 'shop', name, annotations },
  spec: { clusterIP: '10.96.0.1', ports: [{ port: 80 }], ...spec }
})

const serviceExport = (spec: object = {}, metadata: object = {}) => ({
  apiVersion: 'multicluster.x-k8s.io/v1alpha1',
  kind: 'ServiceExport',
  metadata: { namespace: 'shop', name: 'web', creationTimestamp: '2026-11-28T02:36:06Z', ...metadata },
  spec
})

/** What the record of the Service has of its export. */
function exported(...objects: readonly object[]) {
  return catalog(objects.map(item)).snapshot.services[0]?.clusterset
}

describe('a ServiceExport', () => {
  it('carries its time and attributes, and what its Service alone has', () => {
    const spec = {
      ipFamilies: ['IPv6', 'IPv4'],
      internalTrafficPolicy: 'Local',
      trafficDistribution: 'PreferClose'
    }
    assert.deepEqual(
      exported(
        service(spec),
        serviceExport({ exportedLabels: { b: '2', a: '1' }, exportedAnnotations: { note: 'any' } })
      ),
      {
        exportedAt: Date.UTC(2026, 10, 28, 2, 36, 6) / 1000,
        ipFamilies: [6, 4],
        internalTrafficPolicy: 'Local',
        trafficDistribution: 'PreferClose',
        labels: [
          { key: 'a', value: '1' },
          { key: 'b', value: '2' }
        ],
        annotations: [{ key: 'note', value: 'any' }]
      }
    )
    assert.equal(exported(service()), undefined)
    assert.equal(exported(service(), serviceExport({}, { creationTimestamp: 'yesterday' }))?.exportedAt, 0)
  })

  it('leaves out attributes that steer controllers or have no form, with a warning that names one', () => {
    const { snapshot, problems } = catalog(
      [
        service(),
        serviceExport({ exportedLabels: { 'app.kubernetes.io/name': 'x', ok: '1', bad: 'a b' } })
      ].map(item)
    )
    assert.deepEqual(snapshot.services[0]?.clusterset?.labels, [{ key: 'ok', value: '1' }])
    const problem = problems.find(({ message }) => message.includes('exportedLabels'))
    assert.match(problem?.message ?? '', /2 labels that are not carried to other clusters, for example "app/)
    assert.equal(problem?.level, 'warning')
  })

  it('exports nothing without a Service and for an ExternalName, and the problem says so', () => {
    const messageOf = (...objects: readonly object[]) =>
      catalog(objects.map(item), { warnUnreachable: false })
        .problems.map(({ message }) => message)
        .join()
    assert.match(messageOf(serviceExport()), /exports nothing: there is no Service shop\/web/)
    const alias = service({ type: 'ExternalName', externalName: 'example.com' })
    assert.match(messageOf(alias, serviceExport()), /has the type ExternalName/)
    assert.equal(exported(alias, serviceExport()), undefined)
  })

  it('is read without an error whatever it has', () => {
    fc.assert(
      fc.property(fc.object(), fc.object(), (spec, metadata) => {
        toValue(serviceExport(spec, metadata))
      })
    )
  })
})

describe('a ServiceExport in a cluster', () => {
  /** "exported", the reason why it exports nothing, or "none" without a ServiceExport. */
  function verdict(object: object | undefined, policy: ExportPolicy = MARKED, isAsked?: boolean): string {
    const live = new LiveCatalog(policy)
    const of = { namespace: 'shop', name: 'web' }
    live.setExport(of, item(serviceExport()))
    if (object !== undefined)
      live.setService(of, {
        item: item(object),
        facts: exportFacts(object as Record<string, unknown>, policy)
      })
    live.setNamespace('shop', isAsked)
    const { snapshot } = live.settle()
    const [found] = live.exports()
    assert.equal(found?.idle === undefined, snapshot.services[0]?.clusterset !== undefined)
    return found?.idle?.reason ?? 'exported'
  }

  it('adds to the policy, and takes back neither the administrator’s word nor that of the Service', () => {
    assert.equal(verdict(service()), 'exported')
    assert.equal(
      verdict(service(), MARKED, false),
      'exported',
      'it is about this Service, the annotation about all'
    )
    assert.equal(verdict(service({}, { 'rhizome.io/export': 'false' })), 'kept')
    assert.equal(verdict(service({}, { 'rhizome.io/export': 'yes' })), 'kept')
    assert.equal(verdict(service(), { ...EXPORT_ALL, exceptNamespaces: ['shop'] }), 'kept')
    assert.equal(verdict(service(), { ...EXPORT_ALL, namespaces: ['other'] }), 'kept')
    assert.equal(verdict(undefined), 'noService')
    assert.equal(verdict(service({ type: 'ExternalName', externalName: 'example.com' }), EXPORT_ALL), 'alias')
    assert.equal(verdict(service({ ports: [] })), 'refused')
  })

  it('may come before its Service and go after it; the record follows each', () => {
    const live = new LiveCatalog(MARKED)
    const of = { namespace: 'shop', name: 'web' }
    const facts = exportFacts(service(), MARKED)
    const keys = () =>
      live.settle().snapshot.services.map(({ clusterset }) => clusterset?.exportedAt !== undefined)
    live.setExport(of, item(serviceExport()))
    assert.deepEqual(keys(), [])
    live.setService(of, { item: item(service()), facts })
    assert.deepEqual(keys(), [true])
    live.setService(of, undefined)
    assert.deepEqual(keys(), [])
    live.setService(of, { item: item(service()), facts })
    live.setExport(of, undefined)
    assert.deepEqual(keys(), [])
    assert.deepEqual(live.exports(), [])
  })
})
