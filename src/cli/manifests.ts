// The chart's manifests, as they come with this program.
import { readFile } from 'node:fs/promises'
import type { KubeObject } from '../core/kube-api.ts'
import { CliError } from './errors.ts'

declare const RHIZOME_VERSION: string | undefined

export interface Variant {
  readonly openshift: boolean
  readonly webhook: boolean
}

/** Errors: CliError INCOMPLETE. */
export async function readManifests({ openshift, webhook }: Variant): Promise<readonly KubeObject[]> {
  const name = `${openshift ? 'openshift' : 'kubernetes'}${webhook ? '-webhook' : ''}.yaml`
  // Bundled into dist/, else in src/cli/.
  const root = typeof RHIZOME_VERSION === 'string' ? '..' : '../..'
  const file = new URL(`${root}/deploy/manifests/${name}`, import.meta.url)
  try {
    const { parseAllDocuments } = await import('yaml')
    return parseAllDocuments(await readFile(file, 'utf8')).map((document) => document.toJS() as KubeObject)
  } catch (error) {
    throw new CliError(
      'INCOMPLETE',
      `cannot read ${file.pathname}`,
      'install meshctl with its folder deploy/manifests beside it',
      { cause: error }
    )
  }
}

/** For kubectl, which reads YAML 1.1: there a bare "off" is false. */
export async function formatManifests(objects: readonly KubeObject[]): Promise<string> {
  const { Document } = await import('yaml')
  return objects
    .map((object) => new Document(object, { schema: 'yaml-1.1' }).toString({ lineWidth: 0 }))
    .join('---\n')
}
