// What the API servers get of exported services: calls lead to what is wanted, and never to a foreign object.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  applyImport,
  applyImportStatus,
  importDiffers,
  mayDelete,
  readImport,
  wantedImports,
  type HeldImport,
  type ServiceImport
} from '../../../src/core/mcs/service-import.ts'
import { fieldsAt, type KubeCall } from '../../../src/core/kube/kube-api.ts'
import { isFields, type Fields } from '../../../src/core/model/field-check.ts'
import type { ClustersetExport, Ip, ServiceValue } from '../../../src/core/model/values.ts'
import { clustersetKey } from '../../../src/core/model/zones.ts'
import { cluster, EXPORT, meshOf, service } from '../dns/fixtures.ts'

function mesh(clusterset: Partial<ClustersetExport> = {}, more: Partial<ServiceValue> = {}) {
  const made = service('shop/web', more.headless === true ? [] : ['10.2.0.1'], {})
  const view = { ...made, service: { ...made.service, ...more, clusterset: { ...EXPORT, ...clusterset } } }
  return meshOf(cluster('east', { services: [view] }))
}

function importOf(view: ReturnType<typeof mesh>, address: string | undefined = '240.240.0.1'): ServiceImport {
  const addresses = new Map(address === undefined ? [] : [[clustersetKey('shop/web'), address as Ip]])
  return wantedImports(view, { addresses, hasNamespace: () => true }).get('shop/web') ?? assert.fail()
}

/** The object after server-side apply of the calls, as an API server without other managers has it. */
function applied(...calls: readonly KubeCall[]): HeldImport {
  const object: Record<string, unknown> = {}
  for (const { body } of calls) {
    assert.ok(isFields(body))
    const metadata = { ...fieldsAt(object, 'metadata'), ...fieldsAt(body, 'metadata') }
    Object.assign(object, body, { metadata })
  }
  return readImport(JSON.parse(JSON.stringify(object)) as Fields)
}

const NOW = '2026-11-28T03:00:00Z'

describe('service imports', () => {
  it('are as wanted after their calls, and then need none; a change needs what it touches', () => {
    const words = fc.constantFrom('', 'team', 'shop')
    const views = fc.record({
      headless: fc.boolean(),
      affinitySeconds: fc.constantFrom(0, 60),
      label: words,
      policy: fc.constantFrom('' as const, 'Local' as const),
      address: fc.constantFrom('240.240.0.1', undefined)
    })
    const wantOf = (each: typeof views extends fc.Arbitrary<infer T> ? T : never) => {
      const { headless, affinitySeconds, label, policy, address } = each
      const labels = label === '' ? [] : [{ key: label, value: 'x' }]
      return importOf(mesh({ labels, internalTrafficPolicy: policy }, { headless, affinitySeconds }), address)
    }
    fc.assert(
      fc.property(views, views, (first, second) => {
        const [want, other] = [wantOf(first), wantOf(second)]
        assert.deepEqual(importDiffers(want, undefined), { object: true, status: true })
        const have = applied(
          applyImport('v1beta1', want),
          applyImportStatus('v1beta1', want, { have: undefined, now: NOW })
        )
        assert.ok(have.isOurs)
        assert.deepEqual(importDiffers(want, have), { object: false, status: false })
        const differs = importDiffers(other, have)
        assert.equal(
          differs.object,
          JSON.stringify([other.spec, other.labels]) !== JSON.stringify([want.spec, want.labels])
        )
        assert.equal(differs.status, JSON.stringify(other.ready) !== JSON.stringify(want.ready))
      })
    )
  })

  it('carry no label or annotation that steers controllers, and their own mark whatever an export says', () => {
    const want = importOf(
      mesh({
        labels: [
          { key: 'app.kubernetes.io/managed-by', value: 'other' },
          { key: 'team', value: 'shop' }
        ],
        annotations: [{ key: 'rhizome.io/import', value: 'forged' }]
      })
    )
    assert.deepEqual(want.labels, { team: 'shop', 'app.kubernetes.io/managed-by': 'rhizome-mcs' })
    assert.notEqual(want.annotations['rhizome.io/import'], 'forged')
  })

  it('are made only in namespaces that the cluster has', () => {
    const found = wantedImports(mesh(), { addresses: new Map(), hasNamespace: (name) => name !== 'shop' })
    assert.equal(found.size, 0)
  })

  it('say why they are not ready: no free address, or another address family', () => {
    assert.deepEqual(importOf(mesh()).ready.reason, 'Ready')
    const addressless = wantedImports(mesh(), { addresses: new Map(), hasNamespace: () => true }).get(
      'shop/web'
    )
    assert.equal(addressless?.ready.reason, 'Pending')
    assert.equal(importOf(mesh({ ipFamilies: [6] })).ready.reason, 'IPFamilyNotSupported')
    assert.equal(importOf(mesh({}, { headless: true })).ready.reason, 'Ready')
  })

  it('are not ours without our label, and are kept while an exporting cluster has not told its whole catalogue', () => {
    const foreign = readImport({ metadata: { namespace: 'shop', name: 'web' }, spec: {} })
    assert.equal(foreign.isOurs, false)
    const held = { ...foreign, clusters: ['west'] }
    const view = (complete: boolean) => meshOf(cluster('east', {}), cluster('west', { complete }))
    assert.equal(mayDelete(held, view(true)), true)
    assert.equal(mayDelete(held, view(false)), false)
    assert.equal(mayDelete(held, meshOf(cluster('east', {}))), true, 'a cluster that left exports nothing')
  })

  it('are read without an error whatever the object is', () => {
    fc.assert(
      fc.property(fc.object(), (object) => {
        readImport(object)
      })
    )
    assert.deepEqual(
      readImport({ status: { clusters: [{ cluster: 1 }, null, 'x'], conditions: 3 } }).clusters,
      []
    )
    assert.equal(readImport({}).name, '')
  })
})
