import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '../../../src/app/observe/log.ts'
import { resolveSettings } from '../../../src/app/settings/settings.ts'
import { openSource, type Source, type SourceState } from '../../../src/app/sources/source.ts'
import type { InitRequest } from '../../../src/api/requests.ts'
import { withPrefixesOf } from '../../../src/app/enrolment/prefix-check.ts'
import type { Cidr, Origin } from '../../../src/core/model/values.ts'
import { eventually } from '../../eventually.ts'
import { FakeApi, NODES, refuse, service, SERVICES, type Fault } from '../../io/kube/fake-api.ts'

const LEASE = '/apis/coordination.k8s.io/v1/namespaces/default/leases/rhizome-speaker'
const HELD: Fault = (_request, response) => {
  const spec = { holderIdentity: 'another', leaseDurationSeconds: 15, leaseTransitions: 1 }
  response.end(JSON.stringify({ metadata: { resourceVersion: '1' }, spec }))
}

describe('a source in a Kubernetes cluster', () => {
  it('asks for everything again as soon as the Lease can be had again, however long it was to wait', async () => {
    const api = await FakeApi.start()
    api.fail('list', SERVICES, refuse(503, 'later', { 'retry-after': '30' }))
    api.fail('any', LEASE, refuse(503, 'later'))
    api.fail('any', LEASE, HELD, Infinity)
    let isWhole = false
    const source = await openSource({
      settings: resolveSettings({
        flags: { source: 'kubernetes', kubeconfig: api.kubeconfig },
        env: {},
        file: undefined
      }),
      catalogOptions: () => ({}),
      onSnapshot: (_snapshot, _problems, { whole }) => {
        isWhole = whole
      },
      onLeadership: () => undefined,
      onOwnNode: () => undefined,
      termFloor: () => 1,
      siteFacts: () => undefined,
      log: createLog({ 'log-level': 'error', 'log-format': 'text' })
    })
    try {
      source.campaign('12D3KooW' as Origin)
      await source.start()
      assert.equal(isWhole, false)
      await eventually(() => isWhole)
      assert.equal(source.fault, undefined)
    } finally {
      await source.stop()
      await api.close()
    }
  })
})

describe('the prefixes that a cluster reports', () => {
  let api: FakeApi
  let source: Source
  before(async () => {
    api = await FakeApi.start()
    api.put('/apis/networking.k8s.io/v1/servicecidrs', {
      metadata: { name: 'kubernetes' },
      spec: { cidrs: ['10.1.0.0/16'] }
    })
    api.put(NODES, {
      metadata: { name: 'n1' },
      spec: { podCIDRs: ['10.2.0.0/24'] },
      status: { addresses: [{ type: 'InternalIP', address: '10.1.7.1' }] }
    })
    source = await openSource({
      settings: resolveSettings({
        flags: { source: 'kubernetes', kubeconfig: api.kubeconfig },
        env: {},
        file: undefined
      }),
      catalogOptions: () => ({}),
      onSnapshot: () => undefined,
      onLeadership: () => undefined,
      onOwnNode: () => undefined,
      termFloor: () => 1,
      siteFacts: () => undefined,
      log: createLog({ 'log-level': 'error', 'log-format': 'text' })
    })
  })
  after(async () => {
    await source.stop()
    await api.close()
  })
  const request = { cluster: 'east', podCidrs: [], serviceCidrs: [] } as unknown as InitRequest

  it('are refused where a Node lies in a service prefix', async () => {
    await assert.rejects(source.discover(), {
      code: 'BAD_ARGUMENT',
      message: /10\.1\.7\.1 of node n1/,
      fix: /--service-cidr/
    })
    await assert.rejects(withPrefixesOf(source, request), { code: 'BAD_ARGUMENT' })
  })

  it('are asked for by an init where the cluster does not tell them, and not by a join', async () => {
    const heard = { prefixes: '/apis/networking.k8s.io/v1/servicecidrs', id: '/kubernetes' }
    api.delete(heard.prefixes, heard.id)
    try {
      await assert.rejects(withPrefixesOf(source, { ...request, podCidrs: ['10.2.0.0/16'] }), {
        code: 'BAD_ARGUMENT',
        message: /service prefixes are not known/,
        fix: /--service-cidr/
      })
      assert.deepEqual((await source.discover()).servicePrefixes, [])
    } finally {
      api.put(heard.prefixes, { metadata: { name: 'kubernetes' }, spec: { cidrs: ['10.1.0.0/16'] } })
    }
  })

  it('are taken once the right service prefix is named, and refused where a named one overlaps', async () => {
    const named = { ...request, podCidrs: ['10.2.0.0/16'], serviceCidrs: [] }
    await assert.rejects(withPrefixesOf(source, named), { code: 'BAD_ARGUMENT', message: /10\.1\.7\.1/ })
    const found = await source.discover({ servicePrefixes: ['10.96.0.0/12' as Cidr] })
    assert.deepEqual([found.podPrefixes, found.isWholeCluster], [['10.2.0.0/24'], false])
    await assert.rejects(source.discover({ servicePrefixes: ['10.2.0.0/16' as Cidr] }), {
      code: 'BAD_ARGUMENT',
      message: /10\.2\.0\.0\/24 .*10\.2\.0\.0\/16 overlap/
    })
    await assert.rejects(withPrefixesOf(source, { ...request, serviceCidrs: ['10.96.0.0/12'] }), {
      message: /^pod-cidr: the pod prefix of the whole cluster is not known/
    })
  })
})

describe('a source', () => {
  const manifest = (name: string, ip: string): string => `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: ${ip}, ports: [{ port: 80 }] }
`
  const folderOf = (): string => {
    const folder = mkdtempSync(join(tmpdir(), 'source-'))
    for (const name of ['a', 'b', 'c'])
      writeFileSync(join(folder, `${name}.yaml`), manifest(name, '10.101.0.1'))
    return folder
  }

  for (const kind of ['folder', 'kubernetes'] as const) {
    it(`passes on what has changed, and nothing else: ${kind}`, async () => {
      const api = await FakeApi.start()
      for (const name of ['a', 'b', 'c']) api.put(SERVICES, service(name, '10.101.0.1'))
      const folder = folderOf()
      const told: SourceState[] = []
      const source = await openSource({
        settings: resolveSettings({
          flags: { source: kind, kubeconfig: api.kubeconfig, manifests: folder },
          env: {},
          file: undefined
        }),
        catalogOptions: () => ({}),
        onSnapshot: (_snapshot, _problems, state) => told.push(state),
        onLeadership: () => undefined,
        onOwnNode: () => undefined,
        termFloor: () => 1,
        siteFacts: () => undefined,
        log: createLog({ 'log-level': 'error', 'log-format': 'text' })
      })
      // A snapshot may also be told for its problems' sake.
      const last = (expected: readonly string[]): Promise<unknown> =>
        eventually(() => {
          const changes = told.findLast((state) => state.changes.length > 0)?.changes ?? []
          const said = changes.map(({ key, value }) => `${value === undefined ? '-' : '+'}${key}`)
          return said.join() === expected.join()
        })
      try {
        await source.start()
        await last(['+svc/shop/a', '+svc/shop/b', '+svc/shop/c'])
        if (kind === 'folder') writeFileSync(join(folder, 'b.yaml'), manifest('b', '10.101.0.2'))
        else api.put(SERVICES, service('b', '10.101.0.2'))
        await last(['+svc/shop/b'])
        if (kind === 'folder') rmSync(join(folder, 'c.yaml'))
        else api.delete(SERVICES, 'shop/c')
        await last(['-svc/shop/c'])
      } finally {
        await source.stop()
        await api.close()
        rmSync(folder, { recursive: true, force: true })
      }
    })
  }
})
