// Copies what dist/ does not have in it, the packages that build/bundle.ts leaves out and all that those need, from node_modules into
// <folder>/node_modules; of native ones the binary of this platform only. For the container image. `node build/runtime-modules.ts <folder>`
import { cpSync, existsSync, readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
// `external` of build/bundle.ts, and koffi, which src/io/host/kernel/netlink.ts looks for while it runs.
const EXTERNAL = ['classic-level', 'koffi']

const ADDON_SOURCES = new Set(['deps', 'binding.cc', 'test'])
// Its JavaScript is in src/koffi.
const KOFFI_SOURCES = new Set(['doc', 'lib', 'vendor', 'cnoke.cjs'])

const target = process.argv[2]
if (target === undefined) throw new Error('usage: node build/runtime-modules.ts <folder>')

const folders = new Set<string>()
for (const name of EXTERNAL) collect(name, ROOT)
for (const folder of folders)
  cpSync(folder, join(target, relative(ROOT, folder)), { recursive: true, filter: isNeeded })

function collect(name: string, from: string): void {
  const folder = resolve(name, from)
  if (folders.has(folder)) return
  folders.add(folder)
  const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
    readFileSync(join(folder, 'package.json'), 'utf8')
  ) as { dependencies?: Record<string, string>; optionalDependencies?: Record<string, string> }
  for (const dependency of Object.keys(dependencies)) collect(dependency, folder)
  // Binaries of other platforms are not installed.
  for (const dependency of Object.keys(optionalDependencies))
    if (isInstalled(dependency, folder)) collect(dependency, folder)
}

function isInstalled(name: string, from: string): boolean {
  try {
    return resolve(name, from) !== ''
  } catch {
    return false
  }
}

/** As Node looks for it: in the node_modules of each folder above. */
function resolve(name: string, from: string): string {
  const here = join(from, 'node_modules', name)
  if (existsSync(join(here, 'package.json'))) return here
  const above = dirname(from)
  if (above === from) throw new Error(`${name} is not installed: run npm ci`)
  return resolve(name, above)
}

function isNeeded(path: string): boolean {
  const parts = path.split(sep)
  const platform = parts[parts.lastIndexOf('prebuilds') + 1]
  if (parts.includes('prebuilds') && parts.at(-1) !== 'prebuilds')
    return platform === `${process.platform}-${process.arch}`
  // Sources of what is compiled already.
  const sources = path.includes(join('node_modules', 'koffi')) ? KOFFI_SOURCES : ADDON_SOURCES
  return !parts.some((part) => sources.has(part))
}
