// A service that asks for more than a host balances: it is cut and named, on every gateway, and everything else goes on.
import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventually } from '../eventually.ts'
import { inStep, raise, reaches, status, unite } from './harness.ts'

const PORTS = 100
const ENDPOINTS = 1000

describe('a service of 100 ports and 1,000 endpoints', () => {
  const { site } = raise('large', ['west', 'east', 'edge'])
  const file = () => join(site('east').manifests, 'large.yaml')

  before(async () => {
    await unite(site('west'), site('east'), site('edge'))
    await reaches(site('west'), site('edge'))
  })

  it('is cut to 10,000 real servers, with its name and the fix in status, and other clusters are reached as before', async () => {
    writeFileSync(file(), manifest())
    await eventually(async () => {
      const { health } = await status(site('west'))
      const fault = health?.faults.find(({ code }) => code === 'LOAD_BALANCER_LIMIT')
      assert.match(
        fault?.message ?? '',
        /^service shop\/large of cluster east has 100,000 real servers .*; 10,000 are used$/
      )
      assert.match(fault?.fix ?? '', /split the service/)
      return true
    }, 60_000)
    await reaches(site('west'), site('edge'), 60_000)
    await reaches(site('west'), site('east'), 60_000)
    await inStep(site('west'), 120_000)
    const table = await site('west').gateway.exec(
      ['nft', '-j', 'list', 'map', 'inet', 'rhizome', 'services4'],
      {
        timeoutMs: 60_000
      }
    )
    assert.equal(table.stdout.match(/"10\.102\.200\.1"/g)?.length, PORTS)
    await reaches(site('edge'), site('west'), 60_000)
  })

  it('is forgotten when it goes', async () => {
    rmSync(file())
    await eventually(async () => {
      const { health } = await status(site('west'))
      return !(health?.faults ?? []).some(({ code }) => code === 'LOAD_BALANCER_LIMIT')
    }, 60_000)
    await inStep(site('west'), 120_000)
  })
})

function manifest(): string {
  const ports = Array.from({ length: PORTS }, (_, index) => ({ name: `p${index}`, port: 1000 + index }))
  const endpoints = Array.from({ length: ENDPOINTS }, (_, index) => ({
    addresses: [`10.2.${100 + (index >> 8)}.${index & 255}`],
    conditions: { ready: true }
  }))
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'large', namespace: 'shop' },
    spec: { clusterIP: '10.102.200.1', clusterIPs: ['10.102.200.1'], ports }
  }
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'large-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'large' } },
    addressType: 'IPv4',
    ports,
    endpoints
  }
  return [service, slice].map((document) => JSON.stringify(document)).join('\n---\n')
}
