// Container images without an engine and without an image from outside: the file systems are laid out by hand, of this tree and of the
// programs that this machine has, and packed as one OCI archive (image-spec v1). A layer that several images have is packed once.
// The image of the agents is what deploy/image/Dockerfile makes, except that Debian's programs come from this machine with the libraries
// that they load, and not from apt.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  createReadStream,
  existsSync,
  linkSync,
  mkdirSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import type { Programs } from './programs.ts'

const run = promisify(execFile)
const ROOT = resolve(import.meta.dirname, '../../../..')

export const IMAGES = {
  pause: 'localhost/lab/pause:1',
  coredns: 'localhost/lab/coredns:1',
  /** The name that the chart has. */
  meshd: 'docker.io/rhizome/meshd:0.1.0',
  pod: 'localhost/lab/pod:1'
} as const

// What the Dockerfile installs, and what of its base image the scripts in bin/ and the chart's containers call.
const TOOLS = ['ip', 'ss', 'tc', 'wg', 'wireguard-go', 'nft', 'ipvsadm', 'conntrack', 'modprobe']
const BASE = ['sh', 'env', 'cat', 'ls', 'sleep', 'find', 'id', 'readlink', 'dirname', 'head', 'sed', 'rm']
const FILES = ['/etc/passwd', '/etc/group', '/etc/nsswitch.conf', '/etc/protocols', '/etc/services']
const SEARCHED = ['/usr/sbin', '/usr/bin', '/sbin', '/bin']

interface Config {
  readonly entrypoint: readonly string[]
  readonly user?: string
  readonly workdir?: string
  readonly env?: readonly string[]
}

/** An image with programs in /usr/bin beside those that all images have. */
export interface ToolImage {
  readonly refs: readonly string[]
  /** The names in the image, and the paths of the programs on this machine. */
  readonly programs: Readonly<Record<string, string>>
  /** Folders with libraries of these programs that this machine has not installed, with colons between them. */
  readonly libraries: string
}

/** Makes the archive of all images in `folder` and returns its path. dist/ must have been built. */
export async function makeImages(
  folder: string,
  programs: Programs,
  more: readonly ToolImage[] = []
): Promise<string> {
  const at = (name: string): string => join(folder, name)
  await layBase(at('base'))
  await layAgent(at('agent'))
  for (const name of ['pause', 'coredns'] as const) place(programs[name], at(`${name}-root/${name}`))
  for (const file of ['test/demo/pod.ts', 'test/lab/support/nodes/who.ts'])
    place(join(ROOT, file), at(`pod/${file}`))
  const archive = new Archive(at('archive'))
  const base = await archive.layer(at('base'))
  const add = async (ref: string, layers: readonly Layer[], config: Config) =>
    archive.image(ref, layers, config)
  await add(IMAGES.pause, [await archive.layer(at('pause-root'))], { entrypoint: ['/pause'] })
  await add(IMAGES.coredns, [await archive.layer(at('coredns-root'))], { entrypoint: ['/coredns'] })
  await add(IMAGES.meshd, [base, await archive.layer(at('agent'))], {
    entrypoint: ['meshd'],
    user: '65532:65532',
    workdir: '/app',
    env: ['NODE_ENV=production']
  })
  await add(IMAGES.pod, [base, await archive.layer(at('pod'))], {
    entrypoint: ['node', '/test/lab/support/nodes/who.ts']
  })
  for (const [index, { refs, ...tools }] of more.entries()) {
    const root = at(`tools-${index}`)
    await layTools(root, tools)
    const layer = await archive.layer(root)
    for (const ref of refs) await add(ref, [base, layer], { entrypoint: [] })
  }
  return archive.pack(at('images.tar'))
}

// ------------------------------------------------------------------ file systems

/** Debian's programs with the libraries that they load, and Node. /bin, /sbin and /lib are links, as Debian has them. */
async function layBase(root: string): Promise<void> {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(root, 'usr', name), { recursive: true })
    symlinkSync(`usr/${name}`, join(root, name))
  }
  for (const name of ['etc', 'tmp', 'run', 'proc', 'sys', 'dev', 'var']) mkdirSync(join(root, name))
  symlinkSync('/run', join(root, 'var/run'))
  const found = [...TOOLS, ...BASE].map(programPath)
  for (const path of [...found, ...(await librariesOf([...found, process.execPath]))])
    place(path, root + path)
  place(process.execPath, join(root, 'usr/local/bin/node'))
  for (const path of FILES.filter(existsSync)) place(path, root + path)
}

/** The programs, and what of their libraries the base has not. The loader of the image looks in /usr/lib. */
async function layTools(root: string, { programs, libraries }: Omit<ToolImage, 'refs'>): Promise<void> {
  for (const [name, path] of Object.entries(programs)) place(path, join(root, 'usr/bin', name))
  for (const path of await librariesOf(Object.values(programs), libraries))
    place(path, join(root, 'usr/lib', basename(path)))
}

/** Path of a program of this machine. */
export function programPath(name: string): string {
  const path = SEARCHED.map((folder) => `${folder}/${name}`).find(existsSync)
  if (path === undefined) throw new Error(`this machine has no program ${name}: run build/setup test`)
  return path
}

/** What the dynamic loader would load for these programs: "libc.so.6 => /lib/…/libc.so.6 (0x…)", "/lib64/ld-linux-x86-64.so.2 (0x…)". */
async function librariesOf(paths: readonly string[], libraries = ''): Promise<ReadonlySet<string>> {
  const { stdout } = await run(
    'ldd',
    paths.map((path) => realpathSync(path)),
    { env: { ...process.env, LD_LIBRARY_PATH: libraries } }
  )
  return new Set([...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path ?? ''))
}

/** What the Dockerfile copies into its last stage. */
async function layAgent(root: string): Promise<void> {
  const app = join(root, 'app')
  for (const name of ['LICENSE', 'package.json', 'bin', 'deploy/manifests', 'dist'])
    cpSync(join(ROOT, name), join(app, name), {
      recursive: true,
      filter: (source) => !source.endsWith('.map')
    })
  await run(process.execPath, [join(ROOT, 'build/runtime-modules.ts'), app], { cwd: ROOT })
  mkdirSync(join(root, 'usr/local/bin'), { recursive: true })
  for (const name of ['meshd', 'meshctl']) symlinkSync(`/app/bin/${name}`, join(root, 'usr/local/bin', name))
  for (const name of ['var/lib/rhizome', 'run/rhizome', 'etc/rhizome'])
    mkdirSync(join(root, name), { recursive: true })
}

/** A copy of the file that the path leads to. */
function place(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true })
  if (!existsSync(to)) cpSync(realpathSync(from), to)
}

// ------------------------------------------------------------------ the archive

interface Layer {
  readonly digest: string
  readonly size: number
}

class Archive {
  readonly #folder: string
  readonly #manifests: object[] = []

  constructor(folder: string) {
    this.#folder = folder
    mkdirSync(join(folder, 'blobs/sha256'), { recursive: true })
  }

  /** The folder as a layer, not compressed: it is imported once, from the same disk. */
  async layer(root: string): Promise<Layer> {
    const file = join(this.#folder, `${basename(root)}.tar`)
    const same = ['--numeric-owner', '--owner=0', '--group=0', '--sort=name', '--mtime=@0']
    await run('tar', [...same, '-C', root, '-cf', file, '.'])
    const sha = createHash('sha256')
    await pipeline(createReadStream(file), sha)
    const hex = sha.digest('hex')
    const blob = this.#blob(hex)
    if (!existsSync(blob)) linkSync(file, blob)
    await run('rm', [file])
    return { digest: `sha256:${hex}`, size: statSync(blob).size }
  }

  image(
    ref: string,
    layers: readonly Layer[],
    { entrypoint, user = '', workdir = '/', env = [] }: Config
  ): void {
    const config = this.#write({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) },
      config: {
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...env],
        Entrypoint: entrypoint,
        User: user,
        WorkingDir: workdir
      }
    })
    const mediaType = 'application/vnd.oci.image.manifest.v1+json'
    const manifest = this.#write({
      schemaVersion: 2,
      mediaType,
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
      layers: layers.map((layer) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar', ...layer }))
    })
    this.#manifests.push({
      mediaType,
      ...manifest,
      annotations: { 'io.containerd.image.name': ref }
    })
  }

  async pack(to: string): Promise<string> {
    writeFileSync(join(this.#folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
    writeFileSync(
      join(this.#folder, 'index.json'),
      JSON.stringify({ schemaVersion: 2, manifests: this.#manifests })
    )
    await run('tar', ['-C', this.#folder, '-cf', to, 'oci-layout', 'index.json', 'blobs'])
    return to
  }

  #write(value: object): Layer {
    const text = JSON.stringify(value)
    const hex = createHash('sha256').update(text).digest('hex')
    writeFileSync(this.#blob(hex), text)
    return { digest: `sha256:${hex}`, size: Buffer.byteLength(text) }
  }

  #blob(hex: string): string {
    return join(this.#folder, 'blobs/sha256', hex)
  }
}
