// Checks before `meshctl install` applies anything. They refuse what the agents would refuse at their start, because an
// error at the terminal is seen at once and one in the log of a pod is not. The rules are those of the agent: the same
// table of settings and the same decoder of tokens. This file is imported when it is needed, since it loads zod and the
// settings.
import { SETTINGS, resolveSettings } from '../../app/settings/settings.ts'
import { codeOfKind } from '../../core/model/coded-error.ts'
import type { Fields } from '../../core/model/field-check.ts'
import { GATEWAY_LABEL, type Mode } from '../../core/kube/install.ts'
import { fieldsAt, listObjects, textAt, type KubeApi } from '../../core/kube/kube-api.ts'
import { nearest } from '../../core/model/nearest.ts'
import { decodeInviteToken } from '../../core/trust/invite-token.ts'
import { createCrypto } from '../../io/crypto/crypto.ts'
import { badArgument, CliError } from '../output/errors.ts'

/**
 * Checks the form and the signatures of a token. An expired token is accepted, because a repeated installation is the
 * upgrade of agents that have joined. So is a token that is not valid yet, by this host's clock: the agents judge by
 * their own. Errors: CliError TOKEN_… for an invalid token, such as TOKEN_DAMAGED, with the fix of the decoder.
 */
export function checkToken(token: string): void {
  const read = decodeInviteToken(token, {
    crypto: createCrypto(),
    nowSeconds: Math.floor(Date.now() / 1000),
    meshId: undefined
  })
  if (read.kind === 'token') return
  throw new CliError(codeOfKind('TOKEN', read.code), `token: ${read.message}`, read.fix)
}

/**
 * Checks the settings of --set, by key, as meshd would at its start. Errors: CliError BAD_ARGUMENT that names the
 * setting and the fix, with the nearest known key for an unknown one.
 */
export function checkSettings(settings: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(settings)) {
    if (Object.hasOwn(SETTINGS, key)) continue
    const meant = nearest(key, Object.keys(SETTINGS))
    throw badArgument(
      '--set',
      `meshd has no setting "${key}"`,
      `${meant === undefined ? '' : `did you mean ${meant}? `}\`meshd --help\` lists all settings`
    )
  }
  try {
    resolveSettings({ flags: settings, env: {}, file: undefined })
  } catch (error) {
    const { message, fix } = error as Error & { fix?: string }
    throw badArgument('--set', message, fix ?? '`meshd --help` says what each setting takes')
  }
}

/** The mode of an installation, with a note when it does not serve all pods. */
export interface ChosenMode {
  readonly mode: Mode
  /** A sentence for the user about pods that this mode does not serve; undefined when there are none. */
  readonly note: string | undefined
}

/**
 * Returns the mode of the installed DaemonSet, which shows in its node selector; undefined when there is no
 * installation. An upgrade without --mode keeps this mode.
 */
export function modeOfInstalled(daemonSet: Fields | undefined): Mode | undefined {
  if (daemonSet === undefined) return undefined
  const selector = fieldsAt(daemonSet, 'spec', 'template', 'spec', 'nodeSelector')
  return Object.hasOwn(selector, GATEWAY_LABEL) ? 'gateway' : 'mesh'
}

/**
 * Chooses the mode of a first installation. `mesh` needs a pod prefix in every Node (spec.podCIDR), since each agent
 * serves the prefix of its own node. A network plugin with pools of its own leaves the field empty; then it is
 * `gateway`. With one Node both modes serve all pods, so there is no note. Errors: those of the API.
 */
export async function chooseMode(api: KubeApi): Promise<ChosenMode> {
  const nodes =
    (await listObjects(api, { path: '/api/v1/nodes' }, (node) => ({
      name: textAt(node, 'metadata', 'name') ?? '',
      hasPrefix: textAt(node, 'spec', 'podCIDR') !== undefined
    }))) ?? []
  const without = nodes.filter(({ hasPrefix }) => !hasPrefix)
  const [first] = without
  if (first === undefined) return { mode: 'mesh', note: undefined }
  if (nodes.length === 1) return { mode: 'gateway', note: undefined }
  return {
    mode: 'gateway',
    note:
      `${without.length} of ${nodes.length} Nodes, such as ${first.name}, have no spec.podCIDR, so the mode is gateway: only pods on nodes ` +
      'with the gateway label reach other clusters and are reached by them'
  }
}
