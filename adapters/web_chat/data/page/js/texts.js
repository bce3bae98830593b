// What the page says, in English and Simplified Chinese, by the language of the browser.

const ENGLISH = {
  skip: 'Skip to the message field',
  conversations: 'Conversations',
  new_chat: 'New chat',
  more: 'Show more',
  sign_out: 'Sign out',
  theme_auto: 'Theme: system',
  theme_light: 'Theme: light',
  theme_dark: 'Theme: dark',
  menu: 'Conversations',
  messages: 'Messages',
  older: 'Show older messages',
  welcome: 'What can I do for you?',
  welcome_hint: 'Write a message below. Answers appear while they are written.',
  idea_1: 'Hello! Who are you?',
  idea_2: 'run: echo hi in the sandbox',
  latest: 'To the latest message',
  attachments: 'Attachments',
  attach: 'Attach files',
  input_label: 'Message',
  placeholder: 'Write a message…',
  stop: 'Stop the answer',
  send: 'Send',
  keys: 'Enter sends · Shift+Enter new line · Escape stops',
  untitled: 'New conversation',
  connected: 'Connected',
  connecting: 'Connecting…',
  reconnecting: 'Reconnecting…',
  host_away: 'The host is not reachable; trying again…',
  host_closed: 'This web chat was replaced by another one. Restart it, or open the other one.',
  you: 'You',
  agent: 'Agent',
  notice: 'Notice',
  sending: 'Sending…',
  will_send: 'Will be sent when the connection is back',
  will_retry: 'Not accepted yet; trying again. {message}',
  not_sent: 'Not sent: {message}',
  retry: 'Try again',
  edit: 'Edit',
  remove: 'Remove',
  queued: 'Waiting for its turn…',
  thinking: 'Working…',
  typing: 'Typing…',
  waiting: 'Waiting for an approval…',
  cancelling: 'Stopping…',
  ended_failed: 'The answer ended early: {message}',
  ended_cancelled: 'Stopped.',
  answering: 'The agent is answering.',
  reasoning: 'Reasoning',
  tool_running: 'running',
  tool_done: 'finished',
  tool_failed: 'failed',
  tool_output: 'Output',
  tool_no_output: 'No output',
  tool_arguments: 'Arguments',
  tool_interrupted: 'interrupted',
  copy: 'Copy',
  copied: 'Copied',
  download: 'Download {name}',
  image: 'Image {name}',
  uploading: 'Uploading {name}: {percent} %',
  upload_wait: 'Wait until the files are uploaded.',
  too_large: '“{name}” ({size}) was not attached: a file may have {limit} at most. Make it smaller, or send a link to it.',
  too_many: '“{name}” was not attached: a message may have {count} files at most.',
  empty_file: '“{name}” was not attached: it is empty.',
  upload_failed: '“{name}” could not be uploaded: {message}',
  upload_lost: 'the connection was lost; try it again',
  text_too_long: 'The message is too long ({size}); the limit is {limit}. Send it as a file.',
  dismiss: 'Dismiss',
  redacted: 'This message was removed.',
  open_failed: 'The conversation could not be read: {message}',
  cancel_failed: 'The answer could not be stopped: {message}',
  list_failed: 'The list of conversations could not be read: {message}',
  storage_full: 'The browser’s storage is full: this message is kept only while the page is open.',
  working: 'An answer is being written',
  question_answered: 'Answered',
  question_expired: 'The time for this question is over',
  question_withdrawn: 'Withdrawn',
  answer_refused: 'Not accepted: {message}',
  answer_later: 'There is no connection now; send it again in a moment.',
};

const CHINESE = {
  question_answered: '已回答',
  question_expired: '该问题已过期',
  question_withdrawn: '已撤回',
  answer_refused: '未被接受：{message}',
  answer_later: '现在没有连接，请稍后再试。',
  skip: '跳到消息输入框',
  conversations: '会话',
  new_chat: '新对话',
  more: '显示更多',
  sign_out: '退出登录',
  theme_auto: '主题：跟随系统',
  theme_light: '主题：浅色',
  theme_dark: '主题：深色',
  menu: '会话',
  messages: '消息',
  older: '显示更早的消息',
  welcome: '有什么可以帮你？',
  welcome_hint: '在下面输入消息，回答会边写边显示。',
  idea_1: '你好！你是谁？',
  idea_2: 'run: echo hi in the sandbox',
  latest: '回到最新消息',
  attachments: '附件',
  attach: '添加附件',
  input_label: '消息',
  placeholder: '输入消息…',
  stop: '停止回答',
  send: '发送',
  keys: 'Enter 发送 · Shift+Enter 换行 · Esc 停止',
  untitled: '新对话',
  connected: '已连接',
  connecting: '正在连接…',
  reconnecting: '正在重新连接…',
  host_away: '无法连接主机，正在重试…',
  host_closed: '此网页聊天已被另一个进程取代。请重新启动它，或打开另一个。',
  you: '你',
  agent: '助手',
  notice: '通知',
  sending: '正在发送…',
  will_send: '恢复连接后发送',
  will_retry: '尚未被接受，正在重试。{message}',
  not_sent: '未发送：{message}',
  retry: '重试',
  edit: '编辑',
  remove: '移除',
  queued: '排队中…',
  thinking: '处理中…',
  typing: '正在输入…',
  waiting: '等待批准…',
  cancelling: '正在停止…',
  ended_failed: '回答提前结束：{message}',
  ended_cancelled: '已停止。',
  answering: '助手正在回答。',
  reasoning: '推理过程',
  tool_running: '运行中',
  tool_done: '已完成',
  tool_failed: '失败',
  tool_output: '输出',
  tool_no_output: '无输出',
  tool_arguments: '参数',
  tool_interrupted: '已中断',
  copy: '复制',
  copied: '已复制',
  download: '下载 {name}',
  image: '图片 {name}',
  uploading: '正在上传 {name}：{percent}%',
  upload_wait: '请等待文件上传完成。',
  too_large: '未添加“{name}”（{size}）：单个文件最大 {limit}。请缩小文件或发送链接。',
  too_many: '未添加“{name}”：每条消息最多 {count} 个文件。',
  empty_file: '未添加“{name}”：文件为空。',
  upload_failed: '无法上传“{name}”：{message}',
  upload_lost: '连接中断，请重试',
  text_too_long: '消息过长（{size}），上限为 {limit}。请以文件形式发送。',
  dismiss: '关闭',
  redacted: '此消息已被移除。',
  open_failed: '无法读取会话：{message}',
  cancel_failed: '无法停止回答：{message}',
  list_failed: '无法读取会话列表：{message}',
  storage_full: '浏览器存储已满：此消息仅在页面打开期间保留。',
  working: '正在回答',
};

const chinese = (navigator.languages?.[0] ?? navigator.language ?? '').toLowerCase().startsWith('zh');
const words = chinese ? CHINESE : ENGLISH;
export const locale = chinese ? 'zh-CN' : 'en';

export function text(name, values = {}) {
  const sentence = words[name] ?? ENGLISH[name] ?? name;
  return sentence.replace(/\{(\w+)\}/g, (whole, key) => String(values[key] ?? whole));
}

export function translatePage() {
  document.documentElement.lang = locale;
  for (const element of document.querySelectorAll('[data-text]')) element.textContent = text(element.dataset.text);
  for (const element of document.querySelectorAll('[data-label]')) element.setAttribute('aria-label', text(element.dataset.label));
  for (const element of document.querySelectorAll('[data-placeholder]')) element.placeholder = text(element.dataset.placeholder);
}

export function size(bytes) {
  // As file managers and the limit count: 1 MB is 1024 × 1024 bytes.
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${Math.round(bytes / 1024)} KB`;
  // Rounded up, so that what is a little over a limit never reads as the limit.
  return `${Math.ceil((bytes / (1024 * 1024)) * 10) / 10} MB`;
}

const clock = new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(locale, { month: 'short', day: 'numeric' });
const exact = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'medium' });

export function when(stamp) {
  const time = new Date(stamp);
  const today = new Date().toDateString() === time.toDateString();
  return { short: (today ? clock : day).format(time), exact: exact.format(time) };
}
