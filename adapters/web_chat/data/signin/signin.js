// The sign-in in the language of the browser. The form itself needs no script.
const chinese = {
  title: '登录 Portway',
  hint: '请打开 Portway 启动时显示的地址，或在此粘贴网页密钥。',
  label: '网页密钥',
  button: '登录',
  where: '密钥保存在网页聊天数据目录中的 web-key 文件里。',
  wrong_key: '这不是本页面的密钥。',
};

if ((navigator.languages[0] ?? navigator.language ?? '').toLowerCase().startsWith('zh')) {
  document.documentElement.lang = 'zh-CN';
  document.title = 'Portway – 登录';
  for (const element of document.querySelectorAll('[data-text]')) {
    element.textContent = chinese[element.dataset.text] ?? element.textContent;
  }
}
