// The Ansible playbook, run by Ansible against real API servers and real agents. What a kubelet would do is done here: no pod runs, so
// each cluster's agent is a process of this machine, and gets the token from the Secret that the playbook made.
import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'

import { build } from '../built.ts'
import type { StatusAnswer } from '../../src/api/answers.ts'
import { getObject, textAt } from '../../src/core/kube/kube-api.ts'
import { LoopbackAgent } from '../demo/loopback-agent.ts'
import { podCidr, serviceCidr } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const PLAYBOOK = join(ROOT, 'deploy/playbook')
const NAMESPACE = '/api/v1/namespaces/rhizome-system'
const AGENTS = '/apis/apps/v1/namespaces/rhizome-system/daemonsets/rhizome'
const CLUSTERS = ['west', 'east'] as const
type Member = (typeof CLUSTERS)[number]
const RUN_MS = 100_000

describe('the playbook', function () {
  this.timeout(2 * RUN_MS)
  const apis = new Map<Member, KubeApi>()
  const agents = new Map<Member, LoopbackAgent>()
  let folder: string
  let inventory: string

  before(async function () {
    if (spawnSync('ansible-playbook', ['--version']).status !== 0) {
      console.error('SKIPPED: there is no ansible-playbook (Debian: ansible-core)')
      this.skip()
    }
    this.timeout(KUBE_LAB_BUILD_MS)
    build()
    const lab = await kubeLab()
    folder = mkdtempSync(join(tmpdir(), 'rhizome-playbook-'))
    inventory = join(folder, 'inventory.yaml')
    for (const cluster of CLUSTERS) {
      const api = await startKubeApi({ lab })
      apis.set(cluster, api)
      agents.set(cluster, await LoopbackAgent.create(folder, cluster))
      await api.client.request({
        method: 'POST',
        path: '/api/v1/nodes',
        body: { metadata: { name: `${cluster}-node-1` } }
      })
    }
    const hosts = Object.fromEntries(
      CLUSTERS.map((cluster) => [
        cluster,
        {
          rhizome_kubeconfig: apiOf(cluster).kubeconfig,
          rhizome_pod_cidrs: [podCidr(cluster)],
          rhizome_service_cidrs: [serviceCidr(cluster)],
          rhizome_gateways: [`${cluster}-node-1`],
          rhizome_meshctl: [join(ROOT, 'bin/meshctl'), '--socket', agentOf(cluster).socket]
        }
      ])
    )
    writeFileSync(inventory, JSON.stringify({ clusters: { hosts } }))
    writeFileSync(join(folder, 'ansible.cfg'), '')
  })

  after(async () => {
    await Promise.all([...agents.values()].map((agent) => agent.stop()))
    await Promise.all([...apis.values()].map((api) => api.stop()))
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })

  it('is valid, with the inventory that is shown as an example', async () => {
    for (const file of ['install.yaml', 'uninstall.yaml'])
      await ansible('--syntax-check', '-i', join(PLAYBOOK, 'inventory.example.yaml'), join(PLAYBOOK, file))
  })

  it('installs the agents everywhere, makes the mesh in the first cluster and joins the second, without a word of the token', async () => {
    const kubelets = [
      agentOf('west').start(),
      tokenOf('east').then(async (token) => {
        const file = join(folder, 'token')
        writeFileSync(file, token, { mode: 0o600 })
        await agentOf('east').start({ 'token-file': file })
        return token
      })
    ]
    const [output, , token = ''] = await Promise.all([play('install.yaml', '-v'), ...kubelets])
    assert.ok(token.length > 100)
    assert.ok(!output.includes(token))
    for (const cluster of CLUSTERS) {
      await eventually(async () => {
        const { state, clusters } = await status(cluster)
        assert.deepEqual([state, clusters], ['running', 2], cluster)
        return true
      })
      assert.ok(await getObject(apiOf(cluster).client, AGENTS), cluster)
      const node = await getObject(apiOf(cluster).client, `/api/v1/nodes/${cluster}-node-1`)
      assert.equal(textAt(node ?? {}, 'metadata', 'labels', 'rhizome.io/gateway'), '')
    }
  })

  it('may be run again: it makes no second mesh, no second token', async () => {
    const before = await Promise.all(CLUSTERS.map(status))
    const token = await tokenOf('east')
    const output = await play('install.yaml')
    for (const task of ['Make the mesh', 'Get a token for this cluster from the first'])
      assert.match(output, new RegExp(`TASK \\[${task}\\].*\\nskipping: `))
    assert.equal(await tokenOf('east'), token)
    const after = await Promise.all(CLUSTERS.map(status))
    assert.deepEqual(
      after.map(({ peerId, meshId }) => [peerId, meshId]),
      before.map(({ peerId, meshId }) => [peerId, meshId])
    )
  })

  it('takes a cluster out again, and the other knows at once', async () => {
    await play('uninstall.yaml', '--limit', 'east')
    assert.equal(await getObject(apiOf('east').client, AGENTS), undefined)
    assert.ok(await getObject(apiOf('west').client, AGENTS))
    await eventually(async () => (await status('west')).clusters === 1)
    await eventually(async () => (await status('east')).state === 'unjoined')
  })

  /** Every host of the play without a failure. Errors: with what Ansible said. */
  async function play(file: string, ...more: readonly string[]): Promise<string> {
    const output = await ansible('-i', inventory, join(PLAYBOOK, file), ...more)
    const recap = output.slice(output.indexOf('PLAY RECAP'))
    for (const line of recap.split('\n').slice(1))
      if (line !== '') assert.match(line, /unreachable=0 +failed=0/, output)
    return output
  }

  function ansible(...argv: readonly string[]): Promise<string> {
    const { PATH = '' } = process.env
    const path = [join(ROOT, 'bin'), dirname(process.execPath), PATH].join(delimiter)
    // Nothing of the settings of whoever runs the tests.
    const env = {
      PATH: path,
      HOME: folder,
      LANG: 'C.UTF-8',
      ANSIBLE_CONFIG: join(folder, 'ansible.cfg'),
      ANSIBLE_NOCOLOR: '1'
    }
    return new Promise((done, fail) => {
      execFile('ansible-playbook', argv, { env, cwd: folder, timeout: RUN_MS }, (error, stdout, stderr) =>
        error === null ? done(stdout) : fail(new Error(`${error.message}\n${stdout}${stderr}`))
      )
    })
  }

  /** As it is mounted into the agent's pod, as soon as it is there. */
  async function tokenOf(cluster: Member): Promise<string> {
    let token: string | undefined
    await eventually(async () => {
      const secret = await getObject(apiOf(cluster).client, `${NAMESPACE}/secrets/rhizome-token`)
      token = secret && textAt(secret, 'data', 'token')
      return token !== undefined
    }, RUN_MS)
    return Buffer.from(token ?? '', 'base64')
      .toString()
      .trim()
  }

  async function status(cluster: Member): Promise<StatusAnswer> {
    return JSON.parse((await agentOf(cluster).done('status', '--json')).stdout) as StatusAnswer
  }

  function apiOf(cluster: Member): KubeApi {
    return apis.get(cluster) ?? assert.fail(`no API of ${cluster}`)
  }

  function agentOf(cluster: Member): LoopbackAgent {
    return agents.get(cluster) ?? assert.fail(`no agent of ${cluster}`)
  }
})
