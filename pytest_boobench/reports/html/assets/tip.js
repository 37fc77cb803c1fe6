// One tooltip for all charts.

const TIP = document.getElementById("tip");

// rows are [what, value]; those without a value are left out.
function showTip(title, rows, clientX, clientY) {
  const lines = rows.filter(([, value]) => value).flatMap(([what, value]) =>
    [element("dt", {}, what), element("dd", {}, value)]);
  TIP.replaceChildren(element("strong", {}, title), element("dl", {}, ...lines));
  TIP.hidden = false;
  const { width, height } = TIP.getBoundingClientRect();
  const left = clientX + 16 + width > window.innerWidth ? clientX - 16 - width : clientX + 16;
  const top = Math.min(clientY + 12, window.innerHeight - height - 8);
  TIP.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
}

function hideTip() {
  TIP.hidden = true;
}

window.addEventListener("scroll", hideTip, { passive: true });
