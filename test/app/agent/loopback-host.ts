// Real agents in this process, over loopback and without a data plane.
import assert from 'node:assert/strict'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import type { ErrorAnswer, PeersAnswer } from '../../../src/api/answers.ts'
import type { InviteAnswer, JoinedAnswer } from '../../../src/api/membership-answers.ts'
import { startAgent, type Agent } from '../../../src/app/agent/agent.ts'
import { createLog } from '../../../src/app/observe/log.ts'
import { resolveSettings } from '../../../src/app/settings/settings.ts'
import type { Identity } from '../../../src/io/store/store.ts'
import { freePort } from '../../ports.ts'

/** One host with an agent. */
export class LoopbackHost {
  readonly folder: string
  /** The port of the control plane. */
  readonly port: number
  #agent: Agent | undefined

  private constructor(folder: string, port: number) {
    this.folder = folder
    this.port = port
  }

  /** A host whose agent runs, in no mesh. */
  static async make(top: string, name: string): Promise<LoopbackHost> {
    const folder = join(top, name)
    await mkdir(join(folder, 'manifests'), { recursive: true })
    const host = new LoopbackHost(folder, await freePort())
    await host.start()
    return host
  }

  async start(): Promise<void> {
    const { folder, port } = this
    const control = `/ip4/127.0.0.1/tcp/${port}`
    const flags = {
      'state-dir': join(folder, 'state'),
      socket: join(folder, 's'),
      manifests: join(folder, 'manifests'),
      source: 'folder',
      dataplane: 'off',
      listen: control,
      announce: control,
      'probe-port': '0',
      'dns-listen': 'off',
      'http-listen': 'off',
      'feed-listen': 'off'
    }
    this.#agent = await startAgent(
      resolveSettings({ flags, env: {}, file: undefined }),
      createLog({ 'log-level': 'error', 'log-format': 'text' })
    )
  }

  async stop(): Promise<void> {
    await this.#agent?.stop()
    this.#agent = undefined
  }

  /** The disk is lost: the agent starts anew, in no mesh. */
  async loseDisk(): Promise<void> {
    await this.stop()
    await rm(join(this.folder, 'state'), { recursive: true })
    await this.start()
  }

  ask<T>(path: string, body?: object): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const method = body === undefined ? 'GET' : 'POST'
    const call = request({ socketPath: join(this.folder, 's'), path, method }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => (text += chunk))
      response.on('end', () => resolve(JSON.parse(text) as T))
    })
    call.on('error', reject)
    if (body !== undefined) call.setHeader('content-type', 'application/json')
    call.end(body === undefined ? undefined : JSON.stringify(body))
    return promise
  }

  /** The code of the error; undefined when the request was not refused. */
  async refused(path: string, body: object): Promise<string | undefined> {
    return (await this.ask<Partial<ErrorAnswer>>(path, body)).error?.code
  }

  /** Makes a mesh. `net`: the second number of its prefixes. */
  init(cluster: string, net: number, more: object = {}): Promise<JoinedAnswer> {
    return this.ask<JoinedAnswer>('/v1/init', { cluster, ...prefixes(net), ...more })
  }

  /** A token of this agent for a cluster. */
  async invite(cluster: string, net: number): Promise<string> {
    const request = { cluster, ...prefixes(net), ttlSeconds: 3600, bootstrap: [] }
    const answer = await this.ask<InviteAnswer>('/v1/invite', request)
    assert.ok('token' in answer, JSON.stringify(answer))
    return answer.token
  }

  join(token: string): Promise<JoinedAnswer> {
    return this.ask<JoinedAnswer>('/v1/join', { token })
  }

  async identity(): Promise<Identity> {
    const text = await readFile(join(this.folder, 'state', 'identity.json'), 'utf8')
    return (JSON.parse(text) as { identity: Identity }).identity
  }

  /** PeerIds of the other agents of a cluster that are connected. */
  async connected(cluster: string): Promise<readonly string[]> {
    const { peers } = await this.ask<PeersAnswer>('/v1/peers')
    return peers
      .filter((row) => row.cluster === cluster && row.connected && row.state !== 'self')
      .map(({ peerId }) => peerId)
  }
}

function prefixes(net: number): { readonly podCidrs: string[]; readonly serviceCidrs: string[] } {
  return { podCidrs: [`10.${net}.0.0/16`], serviceCidrs: [`10.${100 + net}.0.0/16`] }
}
