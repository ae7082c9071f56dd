// A real kube-apiserver that holds the services of the DNS bench, for CoreDNS with its own plugin.
import { readFile } from 'node:fs/promises'
import { Agent, request } from 'node:https'

import { kubeLab, startKubeApi } from '../lab/support/kube-api.ts'
import { BENCH_NAMESPACES, BENCH_SERVICE_PREFIX, benchObjects, type BenchObject } from './dns-view.ts'

export interface BenchApi {
  readonly kubeconfig: string
  /** From the first object to the last. */
  readonly loadMs: number
  stop(): Promise<void>
}

/** Minutes: 20,000 objects at about 9 ms of processor time each, beside the first build of build/kube-lab. */
export async function startBenchApi(): Promise<BenchApi> {
  const api = await startKubeApi({ lab: await kubeLab(), serviceCidr: BENCH_SERVICE_PREFIX })
  // Twenty thousand requests: over a few connections that stay open.
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS, ca: await readFile(api.caFile) })
  const began = performance.now()
  try {
    const post = ({ path, body }: BenchObject): Promise<void> =>
      postJson(new URL(path, api.url), { agent, token: api.adminToken, body })
    const namespaces = BENCH_NAMESPACES.map((name) => ({
      path: '/api/v1/namespaces',
      body: JSON.stringify({ metadata: { name } })
    }))
    await inParallel(namespaces, post)
    await inParallel(benchObjects(), post)
    return {
      kubeconfig: api.kubeconfig,
      loadMs: performance.now() - began,
      stop: () => api.stop()
    }
  } catch (error) {
    await api.stop()
    throw error
  } finally {
    agent.destroy()
  }
}

const CONNECTIONS = 24

/** In order, CONNECTIONS at a time. */
async function inParallel<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values()
  const worker = async (): Promise<void> => {
    for (const item of queue) await act(item)
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, worker))
}

async function postJson(
  url: URL,
  { agent, token, body }: { readonly agent: Agent; readonly token: string; readonly body: string }
): Promise<void> {
  const headers = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body)
  }
  await new Promise<void>((resolve, reject) => {
    const sent = request(url, { method: 'POST', agent, headers, timeout: 30_000 }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        if (response.statusCode === 201) resolve()
        else
          reject(
            new Error(`POST ${url.pathname}: ${response.statusCode} ${Buffer.concat(chunks).toString()}`)
          )
      })
    })
    sent.on('error', reject)
    sent.on('timeout', () => sent.destroy(new Error(`POST ${url.pathname}: no answer`)))
    sent.end(body)
  })
}
