// Bundles meshctl and meshd: fewer files to load make the start-up about three times faster. `make build`.
import { execFileSync } from 'node:child_process'
import { hash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type BuildOptions } from 'esbuild'
import { BUILTIN_MODULES } from './builtin-modules.ts'
import { BUNDLE_OPTIONS } from './bundle-options.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

const PROGRAMS = {
  meshctl: 'src/cli/main.ts',
  meshd: 'src/app/main.ts',
  'meshd-dns': 'src/io/dns/process/main.ts'
}

const OPTIONS = {
  ...BUNDLE_OPTIONS,
  plugins: [BUILTIN_MODULES],
  define: { RHIZOME_VERSION: JSON.stringify(version()) }
} satisfies BuildOptions

// test/run has built dist/ and sets this: a build takes seconds of both processors, and many tests ask for one.
if (process.env['DIST_IS_BUILT'] === '1' && existsSync(`${ROOT}dist`)) process.exit(0)

const ATTEMPTS = 10
const fresh = `dist.${process.pid}`
await build({
  ...OPTIONS,
  entryPoints: PROGRAMS,
  outdir: fresh,
  // What only some commands need (the Kubernetes client is 17 MB) is loaded when they do.
  splitting: true,
  chunkNames: 'chunks/[name]-[hash]'
})
// Swapped in whole: a program that starts now finds one build or the other. The same build again stays where it is, so that tests
// which build side by side never take dist/ from under each other's programs.
if (digests(fresh) === digests('dist')) rmSync(ROOT + fresh, { recursive: true })
else swapIn()

function swapIn(): void {
  for (let attempt = 0; !swap(`dist.${process.pid}.old${attempt}`); attempt++)
    if (attempt === ATTEMPTS) throw new Error('dist/ is replaced by other builds again and again')
}

/** Names and contents of a folder's files, as one text. Empty where there is no such folder, or where another build replaces it now. */
function digests(folder: string): string {
  try {
    return readdirSync(ROOT + folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => {
        const path = join(parentPath, name)
        return `${path.slice(ROOT.length + folder.length)} ${hash('sha256', readFileSync(path))}`
      })
      .sort()
      .join('\n')
  } catch {
    return ''
  }
}

/** False: another build replaced dist/ first. */
function swap(old: string): boolean {
  try {
    if (existsSync(`${ROOT}dist`)) renameSync(`${ROOT}dist`, ROOT + old)
    renameSync(ROOT + fresh, `${ROOT}dist`)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && ['ENOTEMPTY', 'ENOENT'].includes(String(error.code)))
      return false
    throw error
  } finally {
    rmSync(ROOT + old, { recursive: true, force: true })
  }
}

/** Version of package.json; with the commit behind a + (semantic versioning's build metadata) unless it is tagged so. */
function version(): string {
  const { version } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8'))
  const commit = describe()
  return commit === '' || commit === `v${version}`
    ? version
    : `${version}+${commit.replaceAll(/[^0-9A-Za-z.-]/g, '-')}`
}

/** Empty outside a git checkout, as in an unpacked archive. */
function describe(): string {
  try {
    return execFileSync('git', ['describe', '--tags', '--always', '--dirty'], {
      cwd: ROOT,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore']
    }).trim()
  } catch {
    return ''
  }
}
