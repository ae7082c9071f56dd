// A pod in its node's own network, where the node is the gateway: its service is reached from other clusters, and nothing else of the host.
import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventually } from '../eventually.ts'
import { raise, reaches, unite } from './harness.ts'

const GATEWAY = '10.2.0.1'
const VIP = '10.102.201.1'

describe('a backend that is the gateway itself', () => {
  const { site } = raise('host-network', ['west', 'east'])
  const file = () => join(site('east').manifests, 'host-network.yaml')
  const answer = async (ip: string, port: number) =>
    (await site('west').pod(0).tcp(ip, port, { timeoutMs: 4000 })).error

  before(async () => {
    await unite(site('west'), site('east'))
    await reaches(site('west'), site('east'))
    const program = `for (const port of [8088, 8089]) require('node:net').createServer((s) => s.on('error', () => 0).end('{"pod":"host","client":""}')).listen(port, '${GATEWAY}')`
    site('east').gateway.spawn([process.execPath, '-e', program])
    await eventually(async () => {
      const { stdout } = await site('east').gateway.exec(['ss', '-Hltn', 'src', `${GATEWAY}:8089`])
      return stdout.trim() !== ''
    })
  })

  it('is refused while no exported service has it', async () => {
    assert.equal(await answer(GATEWAY, 8088), 'ECONNREFUSED')
  })

  it('is reached by its service and by its address, at its port alone', async () => {
    writeFileSync(file(), MANIFEST)
    await eventually(async () => {
      assert.equal(await answer(VIP, 80), undefined)
      assert.equal(await answer(GATEWAY, 8088), undefined)
      return true
    })
    assert.equal(await answer(GATEWAY, 8089), 'ECONNREFUSED')
    assert.equal(await answer(VIP, 81), 'ECONNREFUSED')
  })

  it('is refused again when the service has gone', async () => {
    rmSync(file())
    await eventually(async () => (await answer(GATEWAY, 8088)) === 'ECONNREFUSED')
    await reaches(site('west'), site('east'))
  })
})

const MANIFEST = `apiVersion: v1
kind: Service
metadata: { name: node-agent, namespace: shop }
spec: { clusterIP: ${VIP}, clusterIPs: [${VIP}], ports: [{ name: http, port: 80 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: node-agent-1, namespace: shop, labels: { kubernetes.io/service-name: node-agent } }
addressType: IPv4
ports: [{ name: http, port: 8088 }]
endpoints: [{ addresses: ['${GATEWAY}'], conditions: { ready: true } }]
`
