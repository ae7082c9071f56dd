// The images in containerd's own form. They are imported and unpacked once; each node gets a copy that shares the files of the layers, which
// no container changes (the layers are the lower folders of overlays), and has its own databases.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { eventually, slowness } from '../../../eventually.ts'
import type { Programs } from './programs.ts'

const run = promisify(execFile)
const IMPORT_MS = 120_000

/** Imports the archive with a containerd of its own, which ends then, and returns the folder with the images. */
export async function makeStore(folder: string, archive: string, { containerd }: Programs): Promise<string> {
  const root = join(folder, 'store')
  const socket = join(folder, 'store.sock')
  const config = join(folder, 'store.toml')
  writeFileSync(
    config,
    `version = 2\nroot = "${root}"\nstate = "${folder}/store-state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "${socket}"\n`
  )
  const server = spawn(join(containerd, 'containerd'), ['-c', config], {
    stdio: ['ignore', 'ignore', 'pipe']
  })
  let log = ''
  server.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text
  })
  const ctr = (...args: readonly string[]) =>
    run(join(containerd, 'ctr'), ['-a', socket, '-n', 'k8s.io', ...args], { timeout: IMPORT_MS * slowness() })
  try {
    await eventually(async () => {
      assert.equal(server.exitCode, null, log)
      await ctr('version')
      return true
    })
    await ctr('images', 'import', archive)
  } finally {
    const gone = once(server, 'exit')
    server.kill('SIGTERM')
    if (server.exitCode === null && server.signalCode === null) await gone
  }
  return root
}

/** A copy of the store for one node. */
export async function copyStore(store: string, to: string): Promise<void> {
  mkdirSync(to, { recursive: true })
  await run('cp', ['-al', `${store}/.`, to])
  for (const { name, parentPath } of readdirSync(store, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name.endsWith('.db') && !entry.parentPath.includes('/snapshots')
  )) {
    const copy = join(to, parentPath.slice(store.length), name)
    rmSync(copy)
    copyFileSync(join(parentPath, name), copy)
  }
}
