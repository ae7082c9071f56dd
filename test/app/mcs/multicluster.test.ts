// The writer of the Multi-Cluster Services API before API servers and tenants that refuse, change or are slow: what fails waits
// for the next list, and all else is written.
import assert from 'node:assert/strict'
import { Multicluster } from '../../../src/app/mcs/multicluster.ts'
import { isFields, type Fields } from '../../../src/core/model/field-check.ts'
import { fieldsAt, type KubeCall } from '../../../src/core/kube/kube-api.ts'
import type { OwnMulticluster } from '../../../src/io/kube/kube-source.ts'
import { eventually } from '../../eventually.ts'
import { cluster, EXPORT, meshOf, service } from '../../core/dns/fixtures.ts'

/** More than one pass of the writer sends. */
const MANY = 250
const LAST = 'shop/zzz'

/** West exports `count` services and LAST, which is the last one by name. */
function exported(count: number) {
  const names = [...Array.from({ length: count }, (_, index) => `shop/s${index + 1000}`), LAST]
  const services = names.map((name) => {
    const made = service(name, ['10.12.0.1'], {})
    return { ...made, service: { ...made.service, clusterset: EXPORT } }
  })
  return meshOf(cluster('west', { services }))
}

interface Server {
  /** Objects that another program has made: what a list of imports returns. */
  readonly foreign?: readonly string[]
  /** Answers a write: an object, or an error that is thrown. Default: the body. */
  readonly write?: (call: KubeCall, key: string) => unknown
  readonly own?: Partial<OwnMulticluster>
  readonly isSpeaker?: () => boolean
}

/** A writer that has begun, and how often each object was written. */
function begun({ foreign = [], write, own, isSpeaker = () => true }: Server, view = exported(MANY)) {
  const writes = new Map<string, number>()
  const objects = new Map<string, Fields>()
  const request = async (call: KubeCall): Promise<unknown> => {
    const { method = 'GET', path, body } = call
    if (method === 'GET') {
      const items = path.endsWith('/serviceimports') ? foreign.map(objectOf) : []
      return { items }
    }
    const [, namespace = '', name = ''] =
      /namespaces\/([^/]+)\/service(?:im|ex)ports\/([^/]+)/.exec(path) ?? []
    const key = `${namespace}/${name}`
    writes.set(key, (writes.get(key) ?? 0) + 1)
    const answer = write === undefined ? body : write(call, key)
    if (answer instanceof Error) throw answer
    if (!isFields(answer)) return answer
    // As server-side apply does: a patch of the status leaves the labels.
    const before = fieldsAt(objects.get(key))
    const metadata = { ...fieldsAt(before, 'metadata'), ...fieldsAt(answer, 'metadata') }
    objects.set(key, { ...before, ...answer, metadata })
    return objects.get(key)
  }
  const made = new Multicluster({
    api: { request },
    own: {
      version: 'v1alpha1',
      revision: 1,
      exports: () => [],
      hasNamespace: () => true,
      ...own
    },
    writesSlices: false,
    facts: () => ({ view, addresses: new Map(), isWhole: true }),
    isSpeaker,
    log: { warn: () => undefined } as never
  })
  made.start()
  return { made, writes }
}

function objectOf(key: string) {
  const [namespace, name] = key.split('/')
  return { metadata: { namespace, name }, spec: {} }
}

function refusal(status: number, message = `answer ${status}`): Error {
  return Object.assign(new Error(message), { status })
}

describe('the writer of ServiceImports', () => {
  const keys = Array.from({ length: MANY }, (_, index) => `shop/s${index + 1000}`)

  it('writes an import behind more imports of another author than one pass sends, and names one of them', async () => {
    const { made, writes } = begun({ foreign: keys })
    await eventually(() => writes.has(LAST))
    assert.equal(writes.size, 1)
    assert.match(made.faults[0]?.message ?? '', /ServiceImport shop\/s1000 .*and 249 more/)
    await made.stop()
  })

  it('writes an import behind more refused ones than one pass sends, and sends none of them twice', async () => {
    const { made, writes } = begun({
      write: ({ body }, key) => (key === LAST ? body : refusal(403, `quota of ${key}`))
    })
    await eventually(() => writes.has(LAST))
    assert.equal(Math.max(...keys.map((key) => writes.get(key) ?? 0)), 1)
    assert.match(made.faults[0]?.message ?? '', /quota of shop\/s1000/)
    await made.stop()
  })

  it('writes each import once when an admission webhook changes all of them', async () => {
    const { made, writes } = begun({
      write: ({ body }) =>
        isFields(body) ? { ...body, spec: { ...fieldsAt(body, 'spec'), type: 'Other' } } : body
    })
    await eventually(() => writes.has(LAST))
    assert.deepEqual(new Set(writes.values()), new Set([2])) // the object and its status
    await made.stop()
  })

  it('ends a pass when the server is too busy, and sends what is left when it is not', async () => {
    let isBusy = true
    const { made, writes } = begun({ write: ({ body }) => (isBusy ? refusal(429) : body) }, exported(20))
    await eventually(() => made.faults.length > 0)
    assert.equal(writes.size, 1)
    isBusy = false
    await eventually(() => writes.has(LAST))
    await made.stop()
  })

  it('ends a pass when another agent is the speaker', async () => {
    let isSpeaker = true
    const { made, writes } = begun({
      isSpeaker: () => isSpeaker,
      write: ({ body }, key) => {
        isSpeaker = key !== 'shop/s1003'
        return body
      }
    })
    await eventually(() => writes.has('shop/s1003'))
    await made.stop()
    assert.deepEqual([...writes.keys()], ['shop/s1000', 'shop/s1001', 'shop/s1002', 'shop/s1003'])
  })

  it('does not fight over the conditions of an export with a program that changes them each time', async () => {
    let version = 1
    const own: OwnMulticluster = {
      version: 'v1alpha1',
      get revision() {
        return version
      },
      hasNamespace: () => true,
      exports: () => [
        { namespace: 'shop', name: 'web', resourceVersion: String(version), generation: 1, conditions: [] }
      ]
    }
    const { made, writes } = begun({ own, write: () => void version++ }, meshOf(cluster('west', {})))
    await eventually(() => version >= 4)
    const before = version
    // Two looks more, each of which would write.
    await new Promise((resolve) => setTimeout(resolve, 1500))
    assert.equal(version, before)
    assert.equal(writes.get('shop/web'), 3)
    await made.stop()
  })
})
