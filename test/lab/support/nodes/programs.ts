// The programs of a real Kubernetes cluster: those that build/kube-lab compiles, those that build/node-tools unpacks, and Helm. The first run
// takes ten minutes or more and says what it does; later runs find all in the cache.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'

const NAMES = [
  'etcd',
  'kube-apiserver',
  'kubectl',
  'coredns',
  'kubelet',
  'kube-controller-manager',
  'kube-scheduler',
  'kube-proxy',
  'pause',
  'helm'
] as const

// Folders, which go into PATH: containerd looks there for its shim, and the shim for runc.
const FOLDERS = ['containerd', 'runc', 'cni'] as const

export type Programs = Readonly<Record<(typeof NAMES)[number] | (typeof FOLDERS)[number], string>>

/** For `this.timeout` of the hook that calls nodePrograms. */
export const NODE_PROGRAMS_BUILD_MS = 60 * 60_000

/** Why real nodes cannot run here; undefined = they can. */
export function nodesImpossible(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return 'the lab of nodes is made for Linux on x86-64'
  if (process.getuid?.() !== 0) return 'Kubernetes nodes need root'
  if (!existsSync('/dev/net/tun')) return '/dev/net/tun is missing (modprobe tun)'
  if (!/^\d+:memory:/m.test(readFileSync('/proc/self/cgroup', 'utf8')))
    return 'the nodes are made for cgroup v1, and this machine has cgroup v2'
  return undefined
}

/** Paths by name. Builds what is missing. */
export async function nodePrograms(): Promise<Programs> {
  const text = [
    await output('build/kube-lab', 'nodes'),
    await output('build/node-tools'),
    await output('build/helm')
  ].join('')
  const path = (name: string): string =>
    new RegExp(`^${name}=(.+)$`, 'm').exec(text)?.[1] ?? assert.fail(`the builds did not name ${name}`)
  return Object.fromEntries([...NAMES, ...FOLDERS].map((name) => [name, path(name)])) as Programs
}

async function output(program: string, ...args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  assert.equal(code, 0, `${program} failed; its reason is above`)
  return text
}
