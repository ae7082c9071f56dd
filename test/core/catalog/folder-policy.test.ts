import assert from 'node:assert/strict'
import { catalog } from '../../../src/core/catalog/catalog.ts'
import { EXPORT_ALL, type ExportPolicy } from '../../../src/core/catalog/export-policy.ts'
import { leaving, readObject } from '../../../src/core/catalog/folder-policy.ts'
import { parseSelector } from '../../../src/core/kube/label-selector.ts'

const MARKED: ExportPolicy = { ...EXPORT_ALL, unmarked: 'keep' }

const service = (name: string, metadata: object = {}, spec: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { namespace: 'shop', name, ...metadata },
  spec: { clusterIP: '10.101.0.1', ports: [{ port: 80 }], ...spec }
})
const slice = (name: string) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { namespace: 'shop', name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
  addressType: 'IPv4',
  ports: [{ port: 8080 }],
  endpoints: [{ addresses: ['10.1.0.5'] }]
})
const exported = (name: string) => ({
  apiVersion: 'multicluster.x-k8s.io/v1beta1',
  kind: 'ServiceExport',
  metadata: { namespace: 'shop', name }
})
const marked = (text: string) => ({ annotations: { 'rhizome.io/export': text } })

function leaves(objects: readonly unknown[], policy: ExportPolicy) {
  const { items, problems } = leaving(
    objects.flatMap((object) => readObject(object, { file: 'shop.yaml' })),
    policy
  )
  const { snapshot, problems: more } = catalog(items)
  return {
    services: snapshot.services.map(({ name }) => name),
    slices: snapshot.endpointSlices.map(({ service: of }) => of),
    problems: [...problems, ...more].map(({ message }) => message)
  }
}

describe('the export policy of a folder of manifests', () => {
  const objects = [
    service('plain'),
    slice('plain'),
    service('listed'),
    slice('listed'),
    exported('listed'),
    service('asked', marked('true')),
    slice('asked'),
    service('kept', marked('false')),
    slice('kept')
  ]

  it('with export: all, exports what is not annotated to stay', () => {
    const { services, slices, problems } = leaves(objects, EXPORT_ALL)
    assert.deepEqual(
      [services, slices, problems],
      [['asked', 'listed', 'plain'], ['asked', 'listed', 'plain'], []]
    )
  })

  it('with export: marked, exports those with a ServiceExport or the annotation, without a word about the others', () => {
    const { services, slices, problems } = leaves(objects, MARKED)
    assert.deepEqual([services, slices, problems], [['asked', 'listed'], ['asked', 'listed'], []])
  })

  it('lets the administrator’s exclusion win over ServiceExports and annotations, and says so', () => {
    const { services, slices, problems } = leaves(objects, { ...EXPORT_ALL, exceptNamespaces: ['shop'] })
    assert.deepEqual([services, slices], [[], []])
    assert.equal(problems.length, 1)
    assert.match(problems[0] ?? '', /^ServiceExport shop\/listed exports nothing: /)
  })

  it('reads the labels for the setting export-selector', () => {
    const parsed = parseSelector('team=web')
    assert.ok(parsed.kind === 'selector')
    const labelled = service('labelled', { labels: { team: 'web' } })
    const policy = { ...EXPORT_ALL, selector: parsed.selector }
    assert.deepEqual(leaves([labelled, service('other')], policy).services, ['labelled'])
  })

  it('takes no ServiceExport for an alias, and a Service that an earlier version has saved for one without marks', () => {
    const alias = service(
      'alias',
      {},
      { type: 'ExternalName', externalName: 'example.com', clusterIP: undefined }
    )
    assert.deepEqual(leaves([alias, exported('alias')], MARKED).services, [])
    const saved = readObject(service('saved'), { file: 'shop.yaml' }).map(({ file, reading }) => ({
      file,
      reading
    }))
    assert.equal(leaving(saved, EXPORT_ALL).items.length, 1)
    assert.equal(leaving(saved, MARKED).items.length, 0)
  })
})
