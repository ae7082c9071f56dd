// What the API servers get of the endpoints of exported services: calls lead to what is wanted, and touch no foreign object.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  deleteSlice,
  mayDeleteSlice,
  putSlice,
  readSlice,
  sliceDiffers,
  SLICES_PER_SERVICE_MAX,
  wantedSlices,
  type HeldSlice,
  type MirroredSlice
} from '../../../src/core/mcs/endpoint-slice.ts'
import { fieldsAt, type KubeCall } from '../../../src/core/kube/kube-api.ts'
import { isFields, type Fields } from '../../../src/core/model/field-check.ts'
import type { Endpoint, EndpointPort, Ip } from '../../../src/core/model/values.ts'
import type { MeshView } from '../../../src/core/view/view.ts'
import { cluster, EXPORT, meshOf, service } from '../dns/fixtures.ts'

const HTTP: EndpointPort = { name: 'http', protocol: 'TCP', port: 8080 }

interface Part {
  readonly ports: readonly EndpointPort[]
  readonly endpoints: readonly Endpoint[]
}

/** The clusters export shop/web with these slices. */
function mesh(parts: Readonly<Record<string, readonly Part[]>>, complete = true): MeshView {
  return meshOf(
    ...Object.entries(parts).map(([name, slices]) => {
      const kind = 'endpointSlice' as const
      const made = service('shop/web', ['10.2.0.1'], {}, ...slices.map((slice) => ({ kind, ...slice })))
      const view = { ...made, service: { ...made.service, clusterset: EXPORT } }
      return cluster(name, { services: [view], complete })
    })
  )
}

function endpoint(address: string, more: Partial<Endpoint> = {}): Endpoint {
  const ready = { ready: true, serving: true, terminating: false }
  return { addresses: [address as Ip], ...ready, hostname: '', node: 'node-1', ...more }
}

function wanted(view: MeshView): ReadonlyMap<string, MirroredSlice> {
  return wantedSlices(view, () => true)
}

/** An API server that holds EndpointSlices by path, with what it adds to each, and refuses what a real one refuses. */
class Server {
  readonly objects = new Map<string, Record<string, unknown>>()
  #version = 0

  send({ method, path, body }: KubeCall): void {
    assert.ok(isFields(body))
    const metadata = fieldsAt(body, 'metadata')
    const at = method === 'POST' ? `${path}/${String(metadata['name'])}` : path
    const before = this.objects.get(at)
    const known = fieldsAt(before, 'metadata')['resourceVersion']
    if (method === 'POST') assert.equal(before, undefined, `${at} is taken over`)
    else if (method === 'DELETE') {
      assert.equal(fieldsAt(body, 'preconditions')['resourceVersion'], known)
      this.objects.delete(at)
      return
    } else assert.equal(metadata['resourceVersion'], known)
    if (before !== undefined) assert.equal(before['addressType'], body['addressType'], 'it cannot change')
    const resourceVersion = String(++this.#version)
    this.objects.set(at, structuredClone({ ...body, metadata: { ...metadata, resourceVersion, uid: at } }))
  }

  held(): ReadonlyMap<string, HeldSlice> {
    const read = [...this.objects.values()].map((object) => readSlice(object))
    return new Map(read.map((each) => [`${each.namespace}/${each.name}`, each]))
  }
}

/** Sends what leads to `view`, and returns how many calls that took. */
function follow(server: Server, view: MeshView): number {
  const [want, held] = [wanted(view), server.held()]
  const puts = [...want].flatMap(([key, each]) => {
    const have = held.get(key)
    return have === undefined || sliceDiffers(each, have) ? [putSlice(each, have)] : []
  })
  const gone = [...held]
    .filter(([key, have]) => !want.has(key) && mayDeleteSlice(have, view))
    .map(([, have]) => deleteSlice(have))
  for (const call of [...puts, ...gone]) server.send(call)
  return puts.length + gone.length
}

const addresses = fc.constantFrom('10.1.0.1', '10.1.0.2', 'fd00:1::1')
const parts = fc.array(
  fc.record({
    ports: fc.subarray([HTTP, { name: 'dns', protocol: 'UDP' as const, port: 53 }, { ...HTTP, port: 1 }]),
    endpoints: fc.array(
      fc
        .record({ address: addresses, ready: fc.boolean(), hostname: fc.constantFrom('', 'web-0') })
        .map(({ address, ...more }) => endpoint(address, more)),
      { maxLength: 4 }
    )
  }),
  { maxLength: 3 }
)
const meshes = fc
  .record({ east: parts, west: parts, without: fc.constantFrom('', 'east', 'west') })
  .map(({ without, ...clusters }) =>
    mesh(Object.fromEntries(Object.entries(clusters).filter(([name]) => name !== without)))
  )

describe('endpoint slices of imports', () => {
  it('are as wanted after their calls, and then need none, whatever was there before', () => {
    fc.assert(
      fc.property(fc.array(meshes, { minLength: 1, maxLength: 4 }), (views) => {
        const server = new Server()
        for (const view of views) {
          follow(server, view)
          assert.equal(follow(server, view), 0)
          assert.deepEqual(new Set(server.held().keys()), new Set(wanted(view).keys()))
        }
      })
    )
  })

  it('have the labels of the standard, and none that makes them endpoints of a Service of this cluster', () => {
    const [only] = wanted(mesh({ west: [{ ports: [HTTP], endpoints: [endpoint('10.11.0.1')] }] })).values()
    assert.deepEqual(only?.labels, {
      'multicluster.kubernetes.io/service-name': 'web',
      'multicluster.kubernetes.io/source-cluster': 'west',
      'endpointslice.kubernetes.io/managed-by': 'rhizome-mcs'
    })
    assert.deepEqual(only.fields, {
      addressType: 'IPv4',
      ports: [HTTP],
      endpoints: [
        { addresses: ['10.11.0.1'], conditions: { ready: true, serving: true, terminating: false } }
      ]
    })
  })

  it('are one for each address family, and are cut to what the API takes', () => {
    const many = Array.from({ length: 1500 }, (_, host) => endpoint(`10.11.${host >> 8}.${host & 255}`))
    const found = [
      ...wanted(mesh({ west: [{ ports: [HTTP, HTTP], endpoints: [...many, endpoint('fd00::1')] }] }))
    ]
    const sizes = found.map(([, { fields }]) => [
      fields['addressType'],
      (fields['endpoints'] as unknown[]).length,
      (fields['ports'] as unknown[]).length
    ])
    assert.deepEqual(sizes, [
      ['IPv4', 1000, 1],
      ['IPv4', 500, 1],
      ['IPv6', 1, 1]
    ])
  })

  it('are bounded for each service of a cluster, so that one cluster does not fill the API servers of all', () => {
    const one = { ports: [HTTP], endpoints: [endpoint('10.11.0.1')] }
    const view = mesh({ west: Array.from({ length: 150 }, () => one), east: [one] })
    const clusters = [...wanted(view).keys()].map((key) => key.split('.')[1])
    assert.equal(clusters.filter((name) => name === 'west').length, SLICES_PER_SERVICE_MAX)
    assert.equal(clusters.filter((name) => name === 'east').length, 1)
  })

  it('are set back where another program has changed endpoints, ports or labels', () => {
    const view = mesh({ west: [{ ports: [HTTP], endpoints: [endpoint('10.11.0.1')] }] })
    const changes: readonly ((object: Record<string, unknown>) => void)[] = [
      (object) => Object.assign(object, { endpoints: [{ addresses: ['192.0.2.1'] }] }),
      (object) => Object.assign(object, { ports: [{ name: 'http', protocol: 'TCP', port: 22 }] }),
      (object) =>
        Object.assign(fieldsAt(object, 'metadata', 'labels'), { 'kubernetes.io/service-name': 'other' })
    ]
    for (const change of changes) {
      const server = new Server()
      follow(server, view)
      const [object] = server.objects.values()
      assert.ok(object)
      change(object)
      assert.equal(follow(server, view), 1)
      assert.equal(follow(server, view), 0)
    }
  })

  it('keep labels that another program has added, which is no difference, also when their endpoints change', () => {
    const parts = (address: string) => ({ west: [{ ports: [HTTP], endpoints: [endpoint(address)] }] })
    const server = new Server()
    follow(server, mesh(parts('10.11.0.1')))
    const label = () => fieldsAt([...server.objects.values()][0], 'metadata', 'labels')
    Object.assign(label(), { 'policy.example.com/checked': 'yes' })
    assert.equal(follow(server, mesh(parts('10.11.0.1'))), 0)
    assert.equal(follow(server, mesh(parts('10.11.0.2'))), 1)
    assert.equal(label()['policy.example.com/checked'], 'yes')
  })

  it('stay while their cluster has not told its whole catalogue, and go with its export or membership', () => {
    const server = new Server()
    follow(server, mesh({ west: [{ ports: [HTTP], endpoints: [endpoint('10.11.0.1')] }] }))
    assert.equal(follow(server, meshOf(cluster('west', { complete: false }))), 0)
    assert.equal(follow(server, meshOf(cluster('west', {}))), 1)
    assert.equal(server.objects.size, 0)
  })

  it('are made only in namespaces that the cluster has', () => {
    const view = mesh({ west: [{ ports: [HTTP], endpoints: [endpoint('10.11.0.1')] }] })
    assert.equal(wantedSlices(view, () => false).size, 0)
  })

  it('are read without an error whatever the object is', () => {
    fc.assert(fc.property(fc.object(), (object: Fields) => void readSlice(object)))
  })
})
